"""Reloading the policy document while calls go on: at once or not at all, and in the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.driver import Driver
from support.people import ALICE, BOB, config
from toolgate import jsonvalue, notices, runtime
from toolgate.errors import JournalUnavailable
from toolgate.kernel import reload
from toolgate.policy import signing

ALLOW = {"id": "s", "tools": ["search"], "effect": "allow"}
DENY = {"id": "no", "tools": ["search"], "effect": "deny"}
BROKEN = {"id": "no", "tools": ["search"], "effect": "deny", "when": "args.q ="}


class World:
    """A deployment with a policy document, and what its gate tells people."""

    def __init__(self, folder: Path, told: asyncio.Queue[str]) -> None:
        self.folder = folder
        self.told = told
        self.file = folder / "policy.yaml"
        self.write(ALLOW)

    def write(self, *rules: dict[str, Any]) -> None:
        """Write the document as editors do: another file, renamed over it."""
        draft = self.folder / "draft"
        draft.write_text(yaml.safe_dump({"version": 1, "id": "doc", "rules": list(rules)}))
        draft.replace(self.file)

    def sign(self) -> None:
        """Sign the document as it is, as alice."""
        envelope = signing.sign(self.file.read_bytes(), "alice", ALICE.key, None)
        signing.write(self.file, envelope)

    def gate(self, **policy: Any) -> Driver:
        return Driver(self.folder, config(policy={"file": str(self.file), **policy}))

    async def hear(self, text: str) -> str:
        """Wait until people are told something, and return it."""
        while text not in (line := await self.told.get()):
            continue
        return line


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    told: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(notices, "log", told.put_nowait)
    return World(tmp_path, told)


def events(gate: Driver, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    """Return kind and data of the journal's events of some kinds."""
    store = gate.gate.runtime._journal._store
    return [(e.kind, jsonvalue.parse(e.data)) for e in store.events() if e.kind in kinds]


def digest(gate: Driver) -> str:
    return gate.gate.runtime.policy.digest


async def test_a_signal_puts_the_new_document_in_force_for_the_next_call(world: World) -> None:
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        before = await gate.govern("search", {})
        world.write(DENY)
        gate.gate.reload()
        said = await world.hear("policy reloaded")
        after = await gate.govern("search", {})
        loaded = [data for _, data in events(gate, "policy.loaded")]
    assert (before["status"], after["status"]) == ("succeeded", "rejected")
    first, second = before["decision"]["digest"], after["decision"]["digest"]
    assert [data["digest"] for data in loaded] == [first, second]
    assert (loaded[0].get("replaces"), loaded[1]["replaces"]) == (None, first)
    assert second in said
    assert first in said


async def test_a_changed_file_is_noticed_without_anybody_asking(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "INTERVAL", 0.01)
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        world.write(DENY)
        await world.hear("policy reloaded")
        assert (await gate.govern("search", {}))["status"] == "rejected"
        world.write(ALLOW)
        await world.hear("policy reloaded")
        assert (await gate.govern("search", {}))["status"] == "succeeded"


async def test_a_broken_document_leaves_the_old_one_in_force_and_is_journaled_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "INTERVAL", 0.01)
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        in_force = digest(gate)
        world.write(BROKEN)
        said = await world.hear("POLICY NOT RELOADED")
        outcome = await gate.govern("search", {})
        world.write(ALLOW, DENY)
        await world.hear("policy reloaded")
        world.write(BROKEN)
        for _ in range(3):  # People who ask are told again; the journal is not.
            gate.gate.reload()
            await world.hear("POLICY NOT RELOADED")
        refused = [data for _, data in events(gate, "policy.refused")]
    assert (outcome["status"], outcome["decision"]["digest"]) == ("succeeded", in_force)
    assert in_force in said
    assert len(refused) == 1
    assert refused[0]["in_force"] == in_force
    assert refused[0]["file"] == str(world.file)
    assert "rule no: when: 1:" in refused[0]["problems"][0]


@pytest.mark.parametrize("text", ["", "version: 1\nid: doc\nrules: [", "\x00", None])
async def test_half_a_document_or_none_is_refused_and_then_made_good(
    world: World, text: str | None
) -> None:
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        if text is None:
            world.file.unlink()
        else:
            world.file.write_text(text)
        gate.gate.reload()
        await world.hear("POLICY NOT RELOADED")
        assert (await gate.govern("search", {}))["status"] == "succeeded"
        world.write(DENY)
        gate.gate.reload()
        await world.hear("policy reloaded")
        assert (await gate.govern("search", {}))["status"] == "rejected"


async def test_a_document_that_must_be_signed_is_not_in_force_before_its_signature_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sign()
    async with world.gate(require_signature=True, signers=[ALICE.pinned]) as gate:
        in_force = digest(gate)
        world.write(DENY)
        gate.gate.reload()
        said = await world.hear("POLICY NOT RELOADED")
        assert digest(gate) == in_force
        monkeypatch.setattr(reload, "INTERVAL", 0.01)
        gate.gate.runtime.reloader.look()
        world.sign()
        await world.hear("policy reloaded")
        refused = [data for _, data in events(gate, "policy.refused")]
    assert "it is of another document" in said
    assert len(refused) == 1


async def test_a_signature_by_somebody_else_changes_nothing(world: World) -> None:
    world.sign()
    async with world.gate(require_signature=True, signers=[ALICE.pinned]) as gate:
        in_force = digest(gate)
        world.write(DENY)
        signing.write(world.file, signing.sign(world.file.read_bytes(), "alice", BOB.key, None))
        gate.gate.reload()
        await world.hear("nobody who may sign")
        assert digest(gate) == in_force


async def test_the_same_policy_in_other_words_changes_nothing(world: World) -> None:
    async with world.gate() as gate:
        policy = gate.gate.runtime.policy
        world.file.write_text("# a comment\n" + world.file.read_text())
        gate.gate.reload()
        said = await world.hear("the policy is unchanged")
        assert gate.gate.runtime.policy is policy
        assert len(events(gate, "policy.loaded")) == 1
    assert policy.digest in said


async def test_rules_in_the_config_are_not_reloaded_and_a_signal_is_told_so(
    world: World,
) -> None:
    async with Driver(world.folder, config()) as gate:
        policy = gate.gate.runtime.policy
        gate.gate.reload()
        await world.hear("there is no policy document to reload")
        assert gate.gate.runtime.policy is policy


async def test_what_the_journal_cannot_record_is_not_in_force_and_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "INTERVAL", 0.01)
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        store, in_force = gate.gate.runtime._journal._store, digest(gate)
        commit = store.commit

        def full() -> None:
            raise JournalUnavailable("the disk is full")

        monkeypatch.setattr(store, "commit", full)
        world.write(DENY)
        await world.hear("could not be reloaded yet: the disk is full")
        assert digest(gate) == in_force
        monkeypatch.setattr(store, "commit", commit)
        await world.hear("policy reloaded")
        assert (await gate.govern("search", {}))["status"] == "rejected"
        assert len(events(gate, "policy.loaded")) == 2


async def test_what_stands_before_the_event_was_decided_by_the_old_policy_and_after_by_the_new(
    world: World,
) -> None:
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        calls = []
        for n in range(40):
            if n % 10 == 5:
                world.write(DENY if n % 20 == 5 else ALLOW)
                gate.gate.reload()
            calls.append(gate.send("govern", tool="search", args={"n": n}))
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        in_force = None
        seen = set()
        for kind, data in events(gate, "policy.loaded", "action.decided"):
            if kind == "policy.loaded":
                assert data.get("replaces") == in_force
                in_force = data["digest"]
            else:
                assert data["digest"] == in_force
            seen.add(in_force)
    assert len(seen) == 2


async def test_what_is_held_is_released_by_the_policy_that_is_in_force_then(
    world: World,
) -> None:
    hold = {"id": "h", "tools": ["search"], "effect": "hold"}
    world.write(hold)
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        uid = (await gate.govern("search", {}))["uid"]
        gate.approve(uid, ALICE, world.folder)
        world.write(hold, DENY)
        gate.gate.reload()
        await world.hear("policy reloaded")
        outcome = await gate.request("resume", uid=uid)
    assert (outcome["status"], outcome["error"]["kind"]) == ("rejected", "policy_denied")
    assert gate.ran == []


async def test_a_rule_is_tried_enforced_and_tried_again_without_a_restart(world: World) -> None:
    async with world.gate() as gate:
        await gate.tool("search", lambda args: "found")
        found = []
        for mode in ("observe", "enforce", "observe"):
            world.write(ALLOW, {**DENY, "mode": mode})
            gate.gate.reload()
            await world.hear("policy reloaded")
            decision = (await gate.govern("search", {}))["decision"]
            found.append((decision["effect"], decision["mode"]))
    assert found == [("allow", "observe"), ("deny", "enforce"), ("allow", "observe")]


async def test_a_change_between_the_first_reading_and_the_first_look_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_policy = runtime.compile_policy

    def slow(config: Any) -> Any:
        policy = compile_policy(config)
        world.write(DENY)
        return policy

    monkeypatch.setattr(reload, "INTERVAL", 0.01)
    monkeypatch.setattr(runtime, "compile_policy", slow)
    async with world.gate() as gate:
        await world.hear("policy reloaded")
        assert [rule.id for rule in gate.gate.runtime.policy.rules] == ["no"]


async def test_a_gate_that_is_closed_looks_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "INTERVAL", 0.01)
    async with world.gate() as gate:
        reloader = gate.gate.runtime.reloader
    timer = reloader._timer
    assert timer is not None
    assert timer.cancelled()
    await world.hear("warning")
    gate.gate.reload()
    await asyncio.sleep(0)
    assert world.told.empty()
