"""``toolgate policy replay``: what a policy would have decided on recorded calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from toolgate.cli.policy.cases import PolicyOption
from toolgate.cli.policy.recorded import Recording, restored
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    errors,
    one_line,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.config import GateConfig, SqliteJournal
from toolgate.journal.opening import Inspection, inspect_journal
from toolgate.jsonvalue import JSONValue
from toolgate.policy import Policy, compile_policy
from toolgate.policy.documents import enforced, unsigned, with_document
from toolgate.policy.replay import Difference, RecordedCall, decide_again, unrecorded
from toolgate.policy.untold import Judged

_COLOURS = {"allow": "green", "hold": "yellow", "deny": "red"}


def replay_calls(
    config: ConfigOption,
    journal: Annotated[
        Path | None,
        typer.Argument(help="A journal's database; by default the config's.", show_default=False),
    ] = None,
    policy: PolicyOption = None,
    limit: Annotated[
        int, typer.Option(min=0, max=1 << 20, help="Show at most so many changed calls.")
    ] = 20,
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="Exit with 1 when a decision would change.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Compare what was decided on recorded calls with what a policy would decide now."""
    with reported():
        loaded = enforced(unsigned(config_of(config)))
        if journal is not None:
            loaded = loaded.model_copy(update={"journal": SqliteJournal(journal.absolute())})
        new = compile_policy(loaded if policy is None else with_document(loaded, policy))
        recording, difference = _compare(loaded, new, limit, quiet=as_json)
    notes = _notes(recording, difference, new)
    if as_json:
        print_json(
            {
                "policy": new.id,
                "digest": new.digest,
                **difference.to_json(),
                "undecided": recording.undecided,
                "not_genuine": recording.unreadable,
                "notes": notes,
            }
        )
    else:
        _print(new, difference, notes)
    if recording.unreadable or (fail_on_change and difference.changed):
        raise typer.Exit(NO)


def _compare(
    config: GateConfig, policy: Policy, limit: int, *, quiet: bool
) -> tuple[Recording, Difference]:
    opened = inspect_journal(config)
    opened.store.snapshot()
    recording, difference = Recording(opened, config), Difference(limit)
    with Progress(
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} events"),
        console=errors,
        transient=True,
        disable=quiet or not errors.is_terminal,
    ) as progress:
        task = progress.add_task("", total=opened.store.last_seq())
        for call in recording.calls(lambda seen: progress.update(task, completed=seen)):
            difference.add(call, _again(policy, opened, call))
    return recording, difference


def _again(policy: Policy, opened: Inspection, call: RecordedCall) -> Judged:
    """Judge a call again, with its redacted arguments where its row still has them."""
    if not call.gone.pointers:
        return decide_again(policy, call)
    whole, redaction = restored(opened, call)
    judged = decide_again(policy, whole)
    if redaction is None:
        return judged
    return replace(judged, verdict=redaction.verdict(judged.verdict))


def _notes(recording: Recording, difference: Difference, policy: Policy) -> list[str]:
    notes = unrecorded(policy)
    if difference.untold:
        rules = {name: rule.untold for name, rule in difference.rules.items() if rule.untold}
        told = ", ".join(f"{name} ({count})" for name, count in sorted(rules.items()))
        notes.append(
            f"calls of which this cannot be told, and which are not compared: {difference.untold}; "
            "only digests are left of their redacted arguments, and it depends on rules that read "
            f"these: {told}"
        )
    if recording.undecided:
        notes.append(
            f"calls that ended before policy was asked are not compared: {recording.undecided}"
        )
    if recording.unreadable:
        notes.append(
            f"events that were not written with the journal key are left out: "
            f"{recording.unreadable} (see `toolgate journal verify`)"
        )
    return notes


def _print(policy: Policy, difference: Difference, notes: list[str]) -> None:
    console.print(
        Text.assemble(
            (f"{difference.changed} of {difference.calls}", "bold"),
            f" calls would be decided otherwise by {one_line(policy.id)} {policy.digest}",
            f"; of {difference.untold} that cannot be told" if difference.untold else "",
        ),
        soft_wrap=True,
    )
    table = Table("was", "would be", "calls", box=None, pad_edge=False)
    for (was, would), count in sorted(difference.effects.items()):
        table.add_row(_effect(was), _effect(would), str(count))
    if difference.effects:
        print_table(table)
    _print_rules(difference)
    for change in difference.changes:
        _print_change(change.to_json())
    left_out = difference.changed - len(difference.changes)
    if left_out:
        console.print(f"… and {left_out} more (--limit)", markup=False)
    for note in notes:
        console.print(Text.assemble(("note: ", "bold yellow"), printable(note)), soft_wrap=True)


def _print_rules(difference: Difference) -> None:
    changed = {
        name: rule for name, rule in sorted(difference.rules.items()) if rule.gained or rule.lost
    }
    if not changed:
        return
    console.print(Text("\nrules that decide other calls than before", style="bold"))
    table = Table("rule", "decided", "would", "gains", "loses", box=None, pad_edge=False)
    for name, rule in changed.items():
        numbers = (rule.was, rule.would, rule.gained, rule.lost)
        table.add_row(Text(one_line(name)), *map(str, numbers))
    print_table(table)
    console.print(Text("\ncalls", style="bold"))


def _print_change(change: dict[str, JSONValue]) -> None:
    was, would = change["was"], change["would_be"]
    console.print(
        Text.assemble(
            f"{change['at'][:19].replace('T', ' ')}  {one_line(change['action'])}  ",
            (one_line(change["tool"]), "bold"),
            ": ",
            _said(was),
            " → ",
            _said(would),
        ),
        soft_wrap=True,
    )
    console.print(Text(f"    {one_line(would['reason'])}"), soft_wrap=True)


def _said(decision: dict[str, JSONValue]) -> Text:
    rules = ", ".join(decision["rules"])
    return _effect(decision["effect"]) + Text(f" ({one_line(rules)})" if rules else "")


def _effect(effect: str) -> Text:
    return Text(one_line(effect), style=_COLOURS.get(effect, ""))
