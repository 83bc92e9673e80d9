"""Redacted arguments: nobody reads them but the body that runs and the people who decide."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, config
from support.plans import call, events, propose
from toolgate import jsonvalue
from toolgate.approvals.hold import hold_digest
from toolgate.cli.app import app
from toolgate.config import parse_config
from toolgate.deployment import pinned_keys
from toolgate.errors import ConfigError
from toolgate.journal.chain import JournalKey
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.kernel.redaction import MARK, everything, redact
from toolgate.policy.verdict import ApprovalRequirement
from toolgate.wire.messages import RPCError

CARD = "4111-1111-1111-1111"
PIN = 90210
ORDER = {"card": {"number": CARD, "pin": PIN}, "item": "a book"}
SCHEMA = {
    "type": "object",
    "properties": {
        "card": {
            "type": "object",
            "properties": {
                "number": {"type": "string", "maxLength": 40},
                "pin": {"type": "integer"},
            },
            "required": ["number"],
        },
        "item": {"type": "string"},
    },
    "additionalProperties": False,
}


def shop(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a config in which `charge` is allowed and its card is secret."""
    value = config(session="s")
    value["tools"] |= {
        "charge": {"level": 3, "redact": ["/card"], "parameters": dict(SCHEMA)},
        "refund": {"level": 3, "redact": ["/card/number"]},
    }
    value["policy"]["rules"] += [
        *rules,
        {"id": "shop", "tools": ["charge", "refund", "note"], "effect": "allow"},
    ]
    value.update(changes)
    return value


HOLD = {
    "id": "costly",
    "tools": ["charge"],
    "effect": "hold",
    "reason": "a person looks at it",
    "approval": {"approvers": ["alice"]},
}


def written(folder: Path) -> str:
    """Return all that the journal's database and its WAL hold, as text."""
    data = folder / ".toolgate"
    return "\n".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in sorted(data.glob("journal.db*"))
        if path.is_file()
    )


def rows(folder: Path) -> str:
    """Return every value of every row in the journal, as text."""
    db = sqlite3.connect(folder / ".toolgate/journal.db")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    found = [repr(row) for table in tables for row in db.execute(f"SELECT * FROM {table}")]
    db.close()
    return "\n".join(found)


def secret_in(text: str) -> bool:
    """Tell whether a text has the card's number or its pin."""
    return CARD in text or str(PIN) in text


def problem(folder: Path, value: dict[str, Any]) -> str | None:
    """Verify the journal and return what is wrong."""
    journal = inspect_journal(Driver(folder, value).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


async def test_a_call_s_secrets_reach_its_body_and_nothing_that_is_kept(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop()) as gate:
        told = await gate.tool("charge", lambda args: "charged", parameters=SCHEMA)
        outcome = await gate.govern("charge", ORDER)
        (proposed,) = [e for e in events(gate) if e.kind == "action.proposed"]
    assert told["contract"]["redact"] == ["/card"]
    assert outcome["output"] == "charged"
    assert gate.ran == [("charge", ORDER)]
    assert not secret_in(rows(tmp_path))
    data = json.loads(proposed.data)
    assert data["args"]["item"] == "a book"
    assert data["args"]["card"].startswith(MARK)
    assert data["redacted"] == ["/card"]
    assert problem(tmp_path, shop()) is None


async def test_the_same_value_looks_the_same_and_another_does_not(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("charge", lambda args: "charged")
        for order in (ORDER, {**ORDER, "item": "a pen"}, {**ORDER, "card": {"number": "1"}}):
            await gate.govern("charge", order)
        shown = [json.loads(e.data)["args"] for e in events(gate) if e.kind == "action.proposed"]
    assert shown[0]["card"] == shown[1]["card"] != shown[2]["card"]


async def test_what_runs_while_it_is_in_flight_is_redacted_once_it_has_ended(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("charge")
        call_ = gate.send("govern", tool="charge", args=ORDER)
        run = await gate.runs.get()
        assert secret_in(rows(tmp_path))
        gate.answer(run, "charged")
        await call_
        assert not secret_in(rows(tmp_path))


async def test_a_held_call_is_shown_to_its_approver_and_hidden_from_everybody_else(
    tmp_path: Path,
) -> None:
    value = shop(HOLD)
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(value))

    def cli(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--config", str(path)])
        assert result.exit_code == 0, result.output
        return result.output

    async with Driver(tmp_path, value) as gate:
        await gate.tool("charge", lambda args: "charged")
        held = await gate.govern("charge", ORDER)
        uid = held["uid"]
        assert not secret_in(json.dumps(held))
        listed = await gate.request("holds", status="pending")
        assert not secret_in(json.dumps(listed))
        assert not secret_in(cli("approvals", "list", "--json"))
        assert secret_in(cli("approvals", "show", uid))
        assert secret_in(cli("approvals", "show", uid, "--json"))
        explained = cli("policy", "explain", "--uid", uid)
        assert not secret_in(explained)
        assert "a person looks at it" in explained
        assert not secret_in(cli("journal", "show", "--json"))
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
        assert outcome["output"] == "charged"
        assert gate.ran == [("charge", ORDER)]
        shown = cli("approvals", "show", uid)
        assert not secret_in(shown)
        assert MARK in shown
        assert not secret_in(cli("policy", "explain", "--uid", uid))
        assert not secret_in(cli("policy", "replay"))
    assert not secret_in(rows(tmp_path))
    assert problem(tmp_path, value) is None


@pytest.mark.parametrize("how", ["deny", "withdraw"])
async def test_a_held_call_that_never_runs_is_redacted_when_it_ends(
    tmp_path: Path, how: str
) -> None:
    async with Driver(tmp_path, shop(HOLD)) as gate:
        await gate.tool("charge", lambda args: "charged")
        uid = (await gate.govern("charge", ORDER))["uid"]
        assert secret_in(rows(tmp_path))
        if how == "deny":
            gate.approve(uid, ALICE, tmp_path, "deny")
            await gate.request("resume", uid=uid)
        else:
            await gate.request("withdraw", uid=uid)
    assert gate.ran == []
    assert not secret_in(rows(tmp_path))


async def test_a_held_call_is_redacted_as_it_was_when_it_was_proposed(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop(HOLD)) as gate:
        await gate.tool("charge", lambda args: "charged")
        uid = (await gate.govern("charge", ORDER, idempotency_key="k"))["uid"]
    open_ = shop(HOLD)
    del open_["tools"]["charge"]["redact"]
    async with Driver(tmp_path, open_) as gate:
        await gate.tool("charge", lambda args: "charged")
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.govern("charge", ORDER, idempotency_key="k")
        assert (outcome["uid"], outcome["output"]) == (uid, "charged")
        with pytest.raises(RPCError, match="names another call"):
            await gate.govern("charge", {**ORDER, "item": "two"}, idempotency_key="k")
    assert not secret_in(rows(tmp_path))
    assert problem(tmp_path, open_) is None


async def test_the_digests_of_redacted_arguments_cannot_be_guessed_at(tmp_path: Path) -> None:
    """Without the journal key nobody can tell whether a guess is right: not by any digest."""
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        async with Driver(folder, shop(HOLD)) as gate:
            await gate.tool("charge", lambda args: "charged")
            await gate.govern("charge", ORDER)
        db = sqlite3.connect(folder / ".toolgate/journal.db")
        digests.append(db.execute("SELECT content FROM action").fetchone())
        db.close()
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "args",
    [
        {"card_number": CARD, "pin": PIN},
        {"card": CARD},
        {"card": {"number": CARD * 100, "pin": PIN}},
        {"card": {"number": CARD}, "item": PIN},
        {"card": {"number": CARD, "pin": 90210.5}},
    ],
)
async def test_arguments_that_are_not_valid_are_redacted_whole_and_not_quoted(
    tmp_path: Path, args: dict[str, Any]
) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("charge", lambda args: "charged", parameters=SCHEMA)
        outcome = await gate.govern("charge", args)
    assert outcome["error"]["kind"] == "invalid_arguments"
    assert not secret_in(json.dumps(outcome))
    assert not secret_in(rows(tmp_path))


async def test_a_tool_that_nobody_registered_is_redacted_by_its_contract(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop()) as gate:
        outcome = await gate.govern("charge", ORDER)
    assert outcome["error"]["kind"] == "unregistered_tool"
    assert not secret_in(rows(tmp_path))


async def test_a_condition_s_error_does_not_quote_a_secret(tmp_path: Path) -> None:
    rule = {
        "id": "odd",
        "tools": ["charge"],
        "when": "int(args.card.number) > 3 || {'a': 1}[args.card.number] == 1",
        "effect": "deny",
    }
    async with Driver(tmp_path, shop(rule)) as gate:
        await gate.tool("charge", lambda args: "charged")
        outcome = await gate.govern("charge", ORDER)
    assert outcome["error"]["kind"] == "policy_denied"
    assert outcome["decision"]["errors"]
    assert not secret_in(json.dumps(outcome))
    assert not secret_in(rows(tmp_path))


async def test_what_a_body_raises_does_not_quote_a_secret(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("charge")
        asked = gate.send("govern", tool="charge", args=ORDER)
        message = f"card {CARD!r} with pin {PIN} was refused: {json.dumps(ORDER)}"
        gate.fail(await gate.runs.get(), message)
        outcome = await asked
    assert outcome["error"]["message"].startswith(f"card '{MARK}")
    assert outcome["error"]["message"].endswith('"item": "a book"}')
    assert not secret_in(json.dumps(outcome))
    assert not secret_in(rows(tmp_path))


async def test_a_call_in_doubt_keeps_its_arguments_until_it_is_settled(tmp_path: Path) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("charge")
        gate.send("govern", tool="charge", args=ORDER)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, shop()):
        pass
    assert secret_in(rows(tmp_path))
    assert problem(tmp_path, shop()) is None


async def test_a_proposal_s_secrets_go_when_it_ends(tmp_path: Path) -> None:
    value = shop(HOLD)
    actions = [
        call("note", "note", parameters={"text": "first"}),
        call(
            "charge",
            "charge",
            parameters=ORDER,
            reversibility="compensable",
            compensation={"type": "tool", "tool": "refund", "parameters": ORDER},
        ),
        call("end", "note", parameters={"text": "$charge.output"}),
    ]
    async with Driver(tmp_path, value) as gate:
        for name in ("note", "charge", "refund"):
            await gate.tool(name, lambda args: "done")
        result = await propose(gate, *actions, idempotency_key="k")
        assert result["status"] == "suspended"
        listed = json.dumps(await gate.request("holds", status="pending"))
        assert not secret_in(listed)
        for event in events(gate):
            assert not secret_in(event.data.decode())
        uid = result["results"][1]["uid"]
        gate.approve(uid, ALICE, tmp_path)
        again = await propose(gate, *actions, idempotency_key="k")
        resumed = await gate.request("resume", uid=uid)
        assert again["uid"] == result["uid"]
        assert resumed["proposal"]["status"] == "completed"
    assert ("charge", ORDER) in gate.ran
    assert not secret_in(rows(tmp_path))
    assert problem(tmp_path, value) is None


async def test_a_compensation_s_secrets_go_with_those_of_its_proposal(tmp_path: Path) -> None:
    actions = [
        call(
            "charge",
            "note",
            reversibility="compensable",
            compensation={"type": "tool", "tool": "refund", "parameters": ORDER},
        ),
        call("bad", "shell", parameters={"command": "ls"}),
    ]
    async with Driver(tmp_path, shop()) as gate:
        for name in ("note", "refund"):
            await gate.tool(name, lambda args: "done")
        await gate.tool("shell")
        asked = gate.send("propose", proposal={"id": "p", "actions": actions})
        gate.fail(await gate.runs.get(), "no")
        result = await asked
    assert result["status"] == "aborted"
    assert ("refund", ORDER) in gate.ran
    assert CARD not in rows(tmp_path)


async def test_a_repeat_is_known_without_its_arguments(tmp_path: Path) -> None:
    value = shop()
    value["tools"]["charge"]["idempotent"] = True
    async with Driver(tmp_path, value) as gate:
        await gate.tool("charge", lambda args: "charged")
        first = await gate.govern("charge", ORDER)
        second = await gate.govern("charge", ORDER)
        other = await gate.govern("charge", {**ORDER, "item": "a pen"})
    assert (first["replayed"], second["replayed"], other["replayed"]) == (False, True, False)
    assert len(gate.ran) == 2


async def test_nothing_of_a_secret_is_left_in_the_file_once_the_gate_has_ended(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, shop(HOLD)) as gate:
        await gate.tool("charge", lambda args: "charged")
        uid = (await gate.govern("charge", ORDER))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        await gate.request("resume", uid=uid)
    assert not secret_in(written(tmp_path))


def test_pointers_that_are_none_are_refused(tmp_path: Path) -> None:
    for pointer in ("card", "", "/a~2"):
        value = shop()
        value["tools"]["charge"]["redact"] = [pointer]
        with pytest.raises(ConfigError, match="redact"):
            parse_config(value, tmp_path)


@pytest.mark.parametrize("pointer", ["/crad", "/Card/number"])
def test_a_pointer_to_what_a_closed_schema_lets_through_to_nobody_is_an_error(
    tmp_path: Path, pointer: str
) -> None:
    value = shop()
    value["tools"]["charge"]["redact"] = ["/card", pointer]
    with pytest.raises(ConfigError, match=rf"charge\.redact\[1\]: '{pointer}' hides nothing"):
        pinned_keys(parse_config(value, tmp_path))
    del value["tools"]["charge"]["parameters"]["additionalProperties"]
    pinned_keys(parse_config(value, tmp_path))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def keyed(message: bytes) -> bytes:
    return JournalKey(bytes(32)).mac(message)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.data())
def test_redaction_changes_what_the_pointers_name_and_nothing_else(args, data) -> None:
    paths = [path for path in _paths(args) if path]
    chosen = data.draw(st.lists(st.sampled_from(paths), max_size=3)) if paths else []
    found = redact(args, [jsonvalue.pointer(path) for path in chosen], keyed)
    for path in _paths(args):
        hidden = any(path[: len(name)] == name for name in chosen)
        above = any(name[: len(path)] == path for name in chosen)
        if not hidden and not above:
            assert _at(found.args, path) == _at(args, path)
    for path in chosen:
        shortest = min((name for name in chosen if path[: len(name)] == name), key=len)
        assert _at(found.args, shortest).startswith(MARK)
    jsonvalue.canonical(found.args)


@given(st.text(min_size=4, alphabet="abcdefgxyz0123456789'\"\\é\n"), st.text(), st.text())
def test_no_text_keeps_a_secret_in_the_spellings_of_python_and_json(secret, before, after) -> None:
    hidden = redact({"s": secret}, ["/s"], keyed)
    for quoted in (secret, repr(secret), json.dumps(secret), json.dumps({"s": secret})):
        told = hidden.text(f"{before}{quoted}{after}")
        assert secret not in told.replace(hidden.args["s"], "")


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_everything_names_every_member(args) -> None:
    found = redact(args, everything(args), keyed)
    assert found.args.keys() == args.keys()
    assert all(value.startswith(MARK) for value in found.args.values())


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (CARD * 40, "{'a': 1}[args.card.number] == 1"),
        ("4111\x0b1111\x7f", "{'a': 1}[args.card.number] == 1"),
        (CARD, "[1][int(args.card.pin)] == 1"),
        (CARD, "uint(args.card.pin) == 1u || {1u: 1}[uint(args.card.pin)] == 1"),
    ],
)
async def test_a_condition_s_error_says_of_what_kind_it_is_and_no_more(
    tmp_path: Path, number: str, when: str
) -> None:
    rule = {"id": "odd", "tools": ["charge"], "when": when, "effect": "deny"}
    value = shop(rule)
    del value["tools"]["charge"]["parameters"]
    order = {"card": {"number": number, "pin": 37.77492951}}
    async with Driver(tmp_path, value) as gate:
        await gate.tool("charge", lambda args: "charged")
        outcome = await gate.govern("charge", order)
    assert outcome["decision"]["errors"]
    for kept in (rows(tmp_path), json.dumps(outcome)):
        assert "4111" not in kept
        assert "37" not in outcome["decision"]["errors"][0]["error"]


async def test_names_in_a_redacted_object_are_not_told_by_a_schema_s_errors(
    tmp_path: Path,
) -> None:
    schema = {
        "type": "object",
        "properties": {
            "card": {
                "type": "object",
                "propertyNames": {"maxLength": 3},
                "additionalProperties": {"type": "string"},
            }
        },
    }
    value = shop()
    value["tools"]["charge"]["parameters"] = schema
    async with Driver(tmp_path, value) as gate:
        await gate.tool("charge", lambda args: "charged", parameters=schema)
        outcome = await gate.govern("charge", {"card": {CARD: 1}})
    assert outcome["error"]["kind"] == "invalid_arguments"
    assert {item["pointer"] for item in outcome["error"]["details"]["problems"]} == {"/card"}
    assert not secret_in(json.dumps(outcome) + rows(tmp_path))


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        # The name of a member beside the pointer: a secret in the wrong place.
        (
            {"properties": {"card": {"properties": {"number": {}}, "additionalProperties": False}}},
            {"card": {"number": "", CARD: True}},
        ),
        # The schema's own text, where what it names is what was sent.
        (
            {"not": {"properties": {"card": {"properties": {"number": {"const": CARD}}}}}},
            {"card": {"number": CARD}},
        ),
    ],
)
async def test_a_schema_s_error_that_masks_the_value_tells_nothing_of_it_otherwise(
    tmp_path: Path, schema: dict[str, Any], args: dict[str, Any]
) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.tool("refund", lambda args: "refunded", parameters=schema)
        outcome = await gate.govern("refund", args)
        kept = [event.data for event in events(gate) if event.action == outcome["uid"]]
    assert outcome["error"]["kind"] == "invalid_arguments"
    assert not secret_in(json.dumps(outcome) + repr(kept))


@pytest.mark.parametrize("where", ["refused", "unresolved", "compensation"])
async def test_a_secret_that_looks_like_a_reference_is_not_told_when_it_leads_nowhere(
    tmp_path: Path, where: str
) -> None:
    password = "$hunter2-is-my-password.output.x"
    card = {"card": {"number": password}}
    undo = {"type": "tool", "tool": "refund", "parameters": card}
    actions = {
        "refused": [call("a", "charge", parameters=card)],
        "compensation": [
            call("a", "note", parameters={"text": "x"}, reversibility="compensable",
                 compensation=undo),
        ],
        "unresolved": [
            call("hunter2-is-my-password", "note", parameters={"text": "x"}),
            call("a", "charge", parameters=card),
        ],
    }[where]  # fmt: skip
    async with Driver(tmp_path, shop()) as gate:
        for name in ("note", "charge", "refund"):
            await gate.tool(name, lambda args: {"y": 1})
        result = await propose(gate, *actions)
    assert "output.x" not in json.dumps(result)
    assert "output.x" not in rows(tmp_path)
    if where != "unresolved":
        assert "hunter2" not in json.dumps(result) + rows(tmp_path)


async def test_a_misspelt_tool_hides_its_arguments_where_any_contract_redacts(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, shop()) as gate:
        await gate.govern("Charge", ORDER)
        await propose(gate, call("a", "chrage", parameters=ORDER))
    assert not secret_in(rows(tmp_path))
    assert "a book" not in rows(tmp_path)


async def test_every_hold_s_digest_is_blind_so_no_guess_at_a_compensation_can_be_tried(
    tmp_path: Path,
) -> None:
    undo = {"type": "tool", "tool": "refund", "parameters": {"card": {"number": CARD}}}
    asked = call("a", "pay", parameters={"amount": 1}, compensation=undo)
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        async with Driver(folder, shop()) as gate:
            for tool in ("pay", "refund"):
                await gate.tool(tool, lambda args: "done")
            result = await propose(gate, {**asked, "reversibility": "compensable"})
            uid = result["results"][0]["uid"]
            journal = gate.gate.runtime._journal.reader
            record = journal.action(uid)
            hold = journal.hold(record.hold)
            plain = hold_digest(
                uid, "pay", {"amount": 1},
                ApprovalRequirement.from_json(json.loads(hold.requirement)),
                {}, undo, 0,
            )  # fmt: skip
            assert hold.digest != plain
            digests.append(hold.digest)
            gate.approve(uid, ALICE, folder)
            assert (await gate.request("resume", uid=uid))["status"] == "succeeded"
    assert digests[0] != digests[1]


async def test_what_was_hidden_when_it_was_proposed_stays_hidden_whatever_the_config_says_later(
    tmp_path: Path,
) -> None:
    plan = [call("a", "charge", parameters=ORDER)]
    async with Driver(tmp_path, shop(HOLD)) as gate:
        await gate.tool("charge", lambda args: "charged")
        held = (await gate.govern("charge", ORDER))["uid"]
        planned = (await propose(gate, *plan))["results"][0]["uid"]
    odd = {
        "id": "odd",
        "tools": ["charge"],
        "when": "{'a': 1}[args.card.number] == 1",
        "effect": "hold",
        "approval": {"approvers": ["alice"]},
    }
    open_ = shop(HOLD, odd)
    del open_["tools"]["charge"]["redact"]
    async with Driver(tmp_path, open_) as gate:
        await gate.tool("charge")
        for uid in (held, planned):
            # Policy asks otherwise now, so it is asked twice.
            for _ in range(2):
                gate.approve(uid, ALICE, tmp_path)
                asked = gate.send("resume", uid=uid)
                if _ == 0:
                    assert (await asked)["status"] == "held"
            gate.fail(await gate.runs.get(), f"no card {CARD}")
            assert CARD not in json.dumps(await asked)
    assert not secret_in(rows(tmp_path))
    assert problem(tmp_path, open_) is None


def test_hiding_takes_time_in_proportion_to_the_arguments() -> None:
    """Counted, not timed: how often a value is looked at."""
    for size in (1_000, 10_000):
        args = {f"k{number}": "v" for number in range(size)}
        made: list[int] = []

        def counted(message: bytes, made: list[int] = made) -> bytes:
            made.append(1)
            return keyed(message)

        pointers = everything(args)
        steps = _steps(lambda args=args, pointers=pointers, k=counted: redact(args, pointers, k))
        assert len(made) == size
        assert steps < 400 * size


def _steps(function: Any) -> int:
    """Return how many lines of Python a function runs."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


def test_a_text_that_would_take_too_long_to_search_is_left_out() -> None:
    hidden = redact({"s": [f"secret {n}" for n in range(100_000)]}, ["/s"], keyed)
    assert hidden.text("secret 7 " * 10_000).startswith("(left out")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _paths(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            found += _paths(item, (*path, place))
    return found


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value
