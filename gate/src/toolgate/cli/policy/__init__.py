"""``toolgate policy``: what authors of policies work with. One module a command.

``recorded`` is no command: it reads calls back from the journal, for explaining and replaying.
"""

from __future__ import annotations

import typer

from toolgate.cli.policy.car import import_car
from toolgate.cli.policy.cases import run_tests
from toolgate.cli.policy.check import check_document
from toolgate.cli.policy.explain import explain_call
from toolgate.cli.policy.replay import replay_calls
from toolgate.cli.policy.sign import sign_document, verify_document

app = typer.Typer(help="Check, test, explain, replay and sign policies.", no_args_is_help=True)
app.command("check")(check_document)
app.command("test")(run_tests)
app.command("explain")(explain_call)
app.command("replay")(replay_calls)
app.command("sign")(sign_document)
app.command("verify")(verify_document)
app.command("import-car")(import_car)
