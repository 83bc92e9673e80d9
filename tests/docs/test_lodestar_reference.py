"""The page of the Lodestar dialect says what the codec does, and leaves nothing out."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.doc_pages import ROOT, code, table
from support.lodestar_driver import LodestarDriver
from support.people import ALICE, config
from toolgate.wire.lodestar import _SENT, FAILED, REJECTED, Lodestar
from toolgate.wire.messages import ErrorCode, Invalid, RPCError

PAGE = ROOT / "docs" / "reference" / "lodestar.md"


def keys(cell: str) -> tuple[set[str], set[str]]:
    """Return the keys that a cell says a message always has, and those that it may have."""
    named = {name: bool(mark) for name, mark in re.findall(r"`(\w+)`(\??)", cell)}
    return {n for n, may in named.items() if not may}, {n for n, may in named.items() if may}


def test_the_page_has_every_message_of_the_client_with_its_keys() -> None:
    page = {code(row["type"]): keys(row["keys"]) for row in table(PAGE, "From the client")}
    assert page == {
        kind: (
            {n for n, field in model.model_fields.items() if field.is_required()} - {"type"},
            {n for n, field in model.model_fields.items() if not field.is_required()},
        )
        for kind, model in _SENT.items()
    }


def test_the_page_has_every_kind_with_its_phase() -> None:
    page = [tuple(map(code, row.values())) for row in table(PAGE, "Kinds")]
    assert page == [
        *((ours, "rejected", theirs) for ours, theirs in REJECTED.items()),
        *((ours, "failed", theirs) for ours, theirs in FAILED.items()),
    ]


async def test_the_page_shows_what_is_really_sent(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        registered = await gate.ask("register_tool", name="pay")
        refused = await gate.govern("never registered")
        held = await gate.govern("pay")
        gate.approve(held["request_id"], ALICE, tmp_path)
        run = await gate.resume(held)
        gate.answer(run, 1)
        completed = await gate.next()
    invalid = Invalid(1, RPCError(ErrorCode.INVALID_REQUEST, "m"))
    error = json.loads(Lodestar("").invalid(invalid))
    page = {code(row["type"]): keys(row["keys"]) for row in table(PAGE, "From the gate")}
    for message in (gate.ready, registered, refused, held, run, completed, error):
        always, maybe = page[message["type"]]
        assert always <= message.keys() - {"type"} <= always | maybe
    phases = {code(row["phase"]): keys(row["keys besides"]) for row in table(PAGE, "Phases")}
    always, _ = page["govern_result"]
    for message in (refused, held, completed):
        besides, maybe = phases[message["phase"]]
        assert besides <= message.keys() - always - {"type"} <= besides | maybe
    assert page.keys() == {m["type"] for m in (gate.ready, registered, held, run, error)}
