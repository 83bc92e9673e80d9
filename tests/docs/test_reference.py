"""The reference pages say what the code says, and leave nothing out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from support.doc_pages import ROOT, blocks, code, table
from support.driver import Driver
from support.people import ALICE, config
from toolgate.approvals import statement
from toolgate.approvals.hold import Hold
from toolgate.cli.app import app
from toolgate.config import GateConfig, parse_config
from toolgate.desk import Desk
from toolgate.errors import ConfigError
from toolgate.gate import Gate
from toolgate.ir import ActionStatus, OutcomeKind, ProposalStatus
from toolgate.journal.events import EventKind
from toolgate.policy.conditions import _VARIABLES
from toolgate.policy.document import ApprovalTerms, Rule
from toolgate.policy.verdict import ApprovalRequirement, ApproverGroup
from toolgate.signatures import dsse
from toolgate.wire.messages import ErrorCode

APPROVALS = ROOT / "docs" / "guides" / "approvals.md"
REFERENCE = ROOT / "docs" / "reference"
CONFIG, POLICY, WIRE, CLI = (
    REFERENCE / f"{name}.md" for name in ("config", "policy", "wire", "cli")
)


def named(page: Path, heading: str, column: str) -> list[str]:
    """Return the names in a column of a table, each of which may hold several."""
    return [name for row in table(page, heading) for name in re.findall(r"`([^`]+)`", row[column])]


def first_names(page: Path, heading: str, column: str) -> list[str]:
    """Return the name that each row of a table is about."""
    return [code(row[column]) for row in table(page, heading)]


# --- config


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every key a config can have."""
    for name, field in model.model_fields.items():
        sections = [s for s in _sections(field.annotation) if issubclass(s, BaseModel)]
        container = str(field.annotation).startswith(("dict", "typing.Annotated[tuple", "tuple"))
        if not sections or container:
            yield f"{prefix}{name}"
        for section in sections:
            mark = ".NAME" if str(field.annotation).startswith("dict") else "[]" * container
            yield from keys_of(section, f"{prefix}{name}{mark}.")


def _sections(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _sections(argument)]


ITEMS: dict[str, dict[str, Any]] = {
    "approvers[]": ALICE.pinned,
    "signers[]": ALICE.pinned,
    "agents[]": {"id": "a", "name": "A", "system_prompt": "Do.", "capabilities": ["do"]},
}
"""What is required of an item of a list."""


def config_with(key: str, value: object) -> dict[str, Any]:
    """Return a config in which ``key`` stands, with this value and what must stand beside it."""
    config: dict[str, Any] = {"project": "p"}
    *path, last = key.split(".")
    place = config
    for part in path:
        if part.endswith("[]"):
            place[part[:-2]] = [dict(ITEMS[part])]
            place = place[part[:-2]][0]
        else:
            place = place.setdefault(part, {})
    place[last] = value
    return config


def without(config: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the same config without the key."""
    *path, last = key.replace("[]", ".0").split(".")
    place: Any = config
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    del place[last]
    return config


def test_the_config_page_has_every_key_and_no_other() -> None:
    assert sorted(first_names(CONFIG, "Keys", "key")) == sorted(keys_of(GateConfig))


@pytest.mark.parametrize("row", table(CONFIG, "Keys"), ids=lambda row: code(row["key"]))
def test_a_documented_default_is_the_one_a_missing_key_gets(
    row: Mapping[str, str], tmp_path: Path
) -> None:
    key = code(row["key"])
    if row["default"] == "required":
        last = key.rpartition(".")[2]
        with pytest.raises(ConfigError, match=rf"\b{last}: is required"):
            parse_config(without(config_with(key, "x"), key), tmp_path)
        return
    said = config_with(key, yaml.safe_load(code(row["default"])))
    left_out = without(config_with(key, None), key)
    filled = parse_config(left_out, tmp_path)
    assert parse_config(said, tmp_path).model_dump() == filled.model_dump()


# --- policy


def test_the_policy_page_has_every_key_of_a_rule_and_of_its_approval() -> None:
    assert first_names(POLICY, "The document", "key") == list(Rule.model_fields)
    assert first_names(POLICY, "Approval terms", "key") == list(ApprovalTerms.model_fields)


def test_the_policy_page_has_every_variable_with_its_type() -> None:
    page = {code(r["variable"]): code(r["CEL type"]) for r in table(POLICY, "Variables")}
    known = {
        name: kind.name().lower().replace("<", "(").replace(">", ")")
        for name, (kind, _) in _VARIABLES.items()
    }
    assert page == known


# --- wire


def test_the_wire_page_has_every_method_of_the_gate() -> None:
    assert first_names(WIRE, "Methods of the gate", "method") == list(Gate._methods)


def test_the_wire_page_has_every_error_code() -> None:
    page = [int(row["code"].replace("−", "-")) for row in table(WIRE, "Error codes")]
    assert sorted(page) == sorted(ErrorCode)


def test_the_wire_page_has_every_status_a_caller_can_be_told() -> None:
    inner = {ActionStatus.VALIDATED, ActionStatus.IN_DOUBT}
    assert set(first_names(WIRE, "Statuses", "status")) == set(ActionStatus) - inner
    assert set(first_names(WIRE, "Statuses of a proposal", "status")) == set(ProposalStatus)


async def test_the_wire_page_shows_what_is_really_sent(tmp_path: Path) -> None:
    settings = config()
    [money] = [rule for rule in settings["policy"]["rules"] if rule["id"] == "money"]
    money["approval"]["edit"] = True
    async with Driver(tmp_path, settings) as gate:
        await gate.tool("pay", lambda args: "paid")
        held = await gate.govern("pay", {"amount": 1})
        listed = (await gate.request("holds"))["holds"][0]
        desk, key = Desk(gate.config), ALICE.key_file(tmp_path)
        desk.answer(held["uid"], "approve", "alice", key, args={"amount": 2})
        desk.close()
        paid = await gate.request("resume", uid=held["uid"])
        failed = await gate.govern("unheard of")
        await gate.tool("search")
        searching = gate.send("govern", tool="search", args={})
        gate.answer(await gate.runs.get(), {"omitted": "too large"}, omitted=True)
        omitted = await searching
        plan = {"actions": [{"type": "tool_call", "tool": "pay"}]}
        suspended = await gate.request("propose", proposal=plan)
        planned = await gate.request("resume", uid=suspended["uid"])
    [ready] = [r for r in table(WIRE, "What the gate sends") if r["method"] == "`ready`"]
    assert re.findall("`([^`]+)`", ready["params"]) == list(gate.ready)
    outcome = {code(row["field"]): row for row in table(WIRE, "Outcome")}
    assert (
        outcome.keys()
        == held.keys() | paid.keys() | failed.keys() | planned.keys() | omitted.keys()
    )
    always = {name for name, row in outcome.items() if row["present"] == "always"}
    assert always == held.keys() & paid.keys() & failed.keys() & planned.keys()
    assert code(outcome["hold"]["meaning"]) == f"{{{', '.join(held['hold'])}}}"
    assert code(outcome["decision"]["meaning"]) == f"{{{', '.join(held['decision'])}}}"
    assert {*held["hold"], *named(WIRE, "Hold", "field")} == listed.keys()


async def test_the_wire_page_shows_an_event_as_it_is_told(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: 1)
        await gate.govern("search")
        events = (await gate.request("events"))["events"]
    rows = table(WIRE, "Event")
    told = {name: row["present"] for row in rows for name in re.findall("`([^`]+)`", row["field"])}
    assert set(told) == set().union(*events)
    assert {name for name, present in told.items() if present == "always"} == set(events[0])


async def test_the_wire_page_shows_what_a_proposal_really_comes_to(tmp_path: Path) -> None:
    write = {"type": "state_write", "parameters": {"key": "k"}}
    check = {"type": "assertion", "parameters": {"key": "k", "expected": 1}}
    async with Driver(tmp_path, config(policy={"allow_up_to": 2})) as gate:
        completed = await gate.request("propose", proposal={"actions": [write]})
        aborted = await gate.request("propose", proposal={"actions": [write, check]})
    whole = {code(row["field"]): row for row in table(WIRE, "ProposalResult")}
    assert whole.keys() == completed.keys() | aborted.keys()
    always = {name for name, row in whole.items() if row["present"] == "always"}
    assert always == completed.keys() & aborted.keys()
    for field in ("cost", "rollback"):
        assert re.findall("`{(.+)}`", whole[field]["meaning"]) == [", ".join(aborted[field])]
    assert first_names(WIRE, "Rollback", "field") == list(aborted["rollback"])
    outcome = set(first_names(WIRE, "Outcome", "field")) - {"replayed", "proposal"}
    own = {code(row["field"]): row["present"] for row in table(WIRE, "ActionResult")}
    written, failed = aborted["results"]
    assert outcome | own.keys() >= written.keys() | failed.keys() >= own.keys() - {"details"}
    assert {name for name, when in own.items() if when == "always"} <= written.keys()


SOURCE = "\n".join(
    file.read_text()
    for file in (ROOT / "gate" / "src").rglob("*.py")
    if file.name not in {"ir.py", "events.py"}
)


@pytest.mark.parametrize(
    ("heading", "known"), [("Outcome kinds", OutcomeKind), ("Events", EventKind)]
)
def test_the_wire_page_has_every_kind_and_tells_which_are_in_use(
    heading: str, known: type[OutcomeKind] | type[EventKind]
) -> None:
    page = {code(row["kind"]): row["meaning"] for row in table(WIRE, heading)}
    assert list(page) == [kind.value for kind in known]
    used = {kind.value for kind in known if f"{known.__name__}.{kind.name}" in SOURCE}
    assert {kind for kind, meaning in page.items() if meaning} == used


# --- approvals


def test_the_approvals_guide_shows_the_fields_that_an_approver_signs() -> None:
    [shown] = [block for block in blocks(APPROVALS) if block.language == "json"]
    requirement = ApprovalRequirement((ApproverGroup(None, ("alice",), 1),), None)
    hold = Hold("h", "u", "s", "pay", {}, requirement, "sha256:", (), "", "", 0, None)
    envelope = dsse.parse(statement.sign(hold, "approve", "alice", ALICE.key, 0, "why"))
    assert json.loads(shown.text).keys() == json.loads(envelope.payload).keys()
    assert envelope.payload_type in APPROVALS.read_text()


# --- command line


def commands(group: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every command with the names of its arguments and options, as people type them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            shown = [
                param.opts[0] if param.param_type_name == "option" else shown_name(param)
                for param in command.params
            ]
            yield f"{path} {name}", shown


def shown_name(param: Any) -> str:
    """Return an argument's name in the help."""
    return str(param.metavar or param.name).upper()


COMMANDS = dict(commands(typer.main.get_command(app), "toolgate"))


def test_the_command_line_page_has_every_command_and_no_other() -> None:
    headings = re.findall(r"^## `(.+)`$", CLI.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_documented_with_all_its_arguments(command: str) -> None:
    assert sorted(first_names(CLI, f"`{command}`", "argument")) == sorted(COMMANDS[command])
