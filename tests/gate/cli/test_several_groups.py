"""A call that several rules hold: every command says the same of whose approval it waits for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, Person, config
from toolgate.cli.app import app

PEOPLE = (ALICE, BOB, MALLORY)
PAY = {"amount": 900}
OUTSIDE = {
    "id": "outside",
    "tools": ["pay"],
    "effect": "hold",
    "reason": "two people agree; always",
    "approval": {"approvers": ["alice", "bob", "mallory"], "quorum": 2, "edit": True},
}
PRIVACY = {
    "id": "privacy",
    "tools": ["pay"],
    "effect": "hold",
    "reason": "bob looks at what leaves",
    "approval": {"approvers": ["bob"], "edit": True},
}
BROKEN = {
    "id": "odd",
    "tools": ["pay"],
    "when": 'args.none == "x"',
    "effect": "hold",
    "approval": {"approvers": ["bob"], "edit": True},
}


class Holding:
    """A folder with a deployment where one payment is held by several rules."""

    def __init__(self, folder: Path, *rules: dict[str, Any]) -> None:
        self.folder = folder
        self.hold = ""
        self.outcome: dict[str, Any] = {}
        approvers = [person.pinned for person in PEOPLE]
        self.config = config(policy={"rules": list(rules)}, approvals={"approvers": approvers})

    async def open(self) -> Holding:
        """Have the payment held."""
        (self.folder / "gate.yaml").write_text(yaml.safe_dump(self.config))
        for person in PEOPLE:
            person.key_file(self.folder)
        async with Driver(self.folder, self.config) as gate:
            await gate.tool("pay", lambda args: "paid")
            self.outcome = await gate.govern("pay", PAY)
        self.hold = self.outcome["hold"]["hold_id"]
        return self

    def says(self, *arguments: str, stdin: str = "") -> str:
        """Run a command about approvals and return what it prints."""
        ran = CliRunner().invoke(
            app,
            ["approvals", *arguments, "--config", str(self.folder / "gate.yaml")],
            input=stdin,
        )
        assert ran.exit_code == 0, ran.stderr
        return ran.stdout

    def approve(self, person: Person, *more: str, stdin: str = "") -> str:
        """Return the last line that an approval prints."""
        key = str(self.folder / f"{person.id}.key")
        told = self.says("approve", self.hold, "--as", person.id, "--key", key, *more, stdin=stdin)
        return told.splitlines()[-1]


async def test_each_command_names_the_one_who_is_missing(tmp_path: Path) -> None:
    holding = await Holding(tmp_path, OUTSIDE, PRIVACY).open()
    opened = holding.says("watch", "--seconds", "0")
    assert "(waits for 2 of alice, bob, mallory, and for bob)" in opened
    assert holding.approve(ALICE) == "alice approved it; it waits for bob"
    assert holding.approve(MALLORY) == "mallory approved it; it waits for bob"
    header, row = holding.says("list").splitlines()
    assert row[header.index("waits for") :].startswith("bob ")
    assert "(waits for bob)" in holding.says("watch", "--seconds", "0")
    shown = holding.says("show", holding.hold)
    assert "2 of alice, bob, mallory for outside: met" in shown
    assert "bob for privacy: 1 missing" in shown
    assert "waits for    bob" in shown
    told = json.loads(holding.says("show", holding.hold, "--json"))
    assert [group["approved_by"] for group in told["groups"]] == [["alice", "mallory"], []]
    assert told["missing"] == [{"approvers": ["bob"], "quorum": 1, "rules": ["privacy"]}]
    assert holding.approve(BOB) == "bob approved it: it runs, once, when the agent resumes it"


async def test_edited_arguments_wait_for_all_but_their_author(tmp_path: Path) -> None:
    holding = await Holding(tmp_path, OUTSIDE, PRIVACY).open()
    holding.approve(ALICE)
    told = holding.approve(MALLORY, "--edit", "-", stdin='{"amount": 9}')
    assert told == "mallory edited it; the edited arguments wait for bob"
    shown = json.loads(holding.says("show", holding.hold, "--json"))
    assert [group["approved_by"] for group in shown["groups"]] == [["mallory"], []]


async def test_reason_of_each_rule_stands_beside_its_id(tmp_path: Path) -> None:
    holding = await Holding(tmp_path, OUTSIDE, PRIVACY).open()
    shown = holding.says("show", holding.hold)
    assert "outside: two people agree; always" in shown
    assert "privacy: bob looks at what leaves" in shown
    reasons = {rule["id"]: rule["reason"] for rule in (OUTSIDE, PRIVACY)}
    assert json.loads(holding.says("show", holding.hold, "--json"))["reasons"] == reasons
    assert holding.outcome["decision"]["reasons"] == reasons


async def test_rule_that_could_not_be_evaluated_is_told_beside_the_reasons(tmp_path: Path) -> None:
    held = await Holding(tmp_path, OUTSIDE, BROKEN).open()
    shown = held.says("show", held.hold)
    assert "outside: two people agree; always" in shown
    assert "rule odd could not be evaluated" in shown


async def test_hold_by_one_rule_has_one_reason_and_one_quorum(tmp_path: Path) -> None:
    held = await Holding(tmp_path, OUTSIDE).open()
    shown = held.says("show", held.hold)
    assert "reason       two people agree; always" in shown
    assert "alice, bob, mallory (2 must approve)" in shown
    assert "reasons" not in held.outcome["decision"]
    assert held.approve(ALICE) == "alice approved it; it waits for bob or mallory"
