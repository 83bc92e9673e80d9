"""``toolgate journal``: read the log, follow it, take it elsewhere, and prove that it is whole.

One module a command; ``shown`` is how they show an event, ``progress`` how far they have come.
"""

from __future__ import annotations

import typer

from toolgate.cli.journal.anchor import anchor_journal
from toolgate.cli.journal.export import export_events
from toolgate.cli.journal.show import show_events
from toolgate.cli.journal.shown import event_json, event_table
from toolgate.cli.journal.tail import tail_events
from toolgate.cli.journal.verify import verify_journal

__all__ = ["app", "event_json", "event_table"]

app = typer.Typer(help="The journal: what happened, and the proof of it.", no_args_is_help=True)
app.command("show")(show_events)
app.command("tail")(tail_events)
app.command("verify")(verify_journal)
app.command("export")(export_events)
app.command("anchor")(anchor_journal)
