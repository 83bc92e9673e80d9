"""A release as a plan: tests, a migration, a deployment that a person approves, a smoke test.

Run it with `.venv/bin/python examples/deploy.py` (`make quickstart` makes .venv), or with `python`
where Toolgate is installed. It uses no framework: a plan is JSON, given to `GateClient.propose`.
Release 2.4.0 fails its smoke test, so that all of the plan is undone that can be; 2.4.1 goes well.
The gate is a real one, with configs/deploy.yaml. All that is written is in a temporary folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

if not sys.stdout.isatty():
    os.environ.setdefault("COLUMNS", "120")  # of tables, where no terminal says how wide it is
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="replace")  # of lines and dots, where the encoding has none

from rich.console import Console
from rich.markup import escape

from toolgate.cli.app import app as toolgate_command
from toolgate.signatures.keys import new_private_key, public_key_text
from toolgate_client import GateClient, ProposalResult

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BROKEN = "2.4.0"

T = TypeVar("T")

console = Console(highlight=False)

# --- the world: a service, its database and a channel, each a file -------------------------------

LIVE, SCHEMA, CHANNEL = Path("live.txt"), Path("schema.txt"), Path("channel.txt")


def run_tests(args: dict[str, Any]) -> dict[str, Any]:
    """Test a version; raises when it is not well."""
    return {"version": args["version"], "tests": 214}


def announce(args: dict[str, Any]) -> str:
    """Post a message to the team's channel."""
    with CHANNEL.open("a") as channel:
        channel.write(f"{args['text']}, {args['tested']['tests']} tests passed\n")
    return "posted"


def migrate_database(args: dict[str, Any]) -> dict[str, Any]:
    """Bring the database to a schema, up or down."""
    was = int(SCHEMA.read_text())
    SCHEMA.write_text(f"{args['to']}")
    return {"was": was, "is": args["to"]}


def put_live(args: dict[str, Any]) -> dict[str, Any]:
    """Make a version the one that serves customers: the body of `deploy` and of `roll_back`."""
    was = LIVE.read_text()
    LIVE.write_text(args["version"])
    return {"was": was, "is": args["version"]}


def smoke_test(args: dict[str, Any]) -> str:
    """Ask the live service whether it is well."""
    if LIVE.read_text() == BROKEN:
        raise RuntimeError("GET /checkout answers 500")
    return "all pages answer"


TOOLS = {
    "run_tests": run_tests,
    "announce": announce,
    "migrate_database": migrate_database,
    "deploy": put_live,
    "roll_back": put_live,
    "smoke_test": smoke_test,
}

# --- the plan ------------------------------------------------------------------------------------


def release(version: str) -> dict[str, Any]:
    """Return the plan that releases a version. No action says otherwise, so a failure aborts it."""
    return {
        "id": f"release-{version}",
        "source": "release-bot",
        "actions": [
            {
                "id": "test",
                "type": "tool_call",
                "tool": "run_tests",
                "parameters": {"version": version},
            },
            {
                "id": "tested",
                "type": "state_write",
                "parameters": {"key": "tests_passed", "value": True},
                "dependencies": ["test"],
            },
            {
                "id": "tell",
                "type": "tool_call",
                "tool": "announce",
                "parameters": {"text": f"releasing {version}", "tested": "$test.output"},
                "dependencies": ["tested"],
            },
            {
                "id": "migrate",
                "type": "tool_call",
                "tool": "migrate_database",
                "parameters": {"to": 8},
                "dependencies": ["tested"],
                "expected_effects": {"schema": 8},
                "reversibility": "compensable",
                "compensation": {
                    "type": "tool",
                    "tool": "migrate_database",
                    "parameters": {"to": "$migrate.output.was"},
                },
            },
            {
                "id": "deploy",
                "type": "tool_call",
                "tool": "deploy",
                "parameters": {"version": version},
                "dependencies": ["migrate"],
                "preconditions": [{"key": "tests_passed", "value": True}],
                "expected_effects": {"live": version},
                "reversibility": "compensable",
                "compensation": {"type": "action_ref", "action_id": "back"},
            },
            {  # a deployment that a person denies is rejected, which aborts nothing; this does
                "id": "arrived",
                "type": "assertion",
                "parameters": {"key": "live", "expected": version},
            },
            {
                "id": "smoke",
                "type": "tool_call",
                "tool": "smoke_test",
                "dependencies": ["arrived"],
            },
            {  # named as a compensation, so it runs only as that
                "id": "back",
                "type": "tool_call",
                "tool": "roll_back",
                "parameters": {"version": "$deploy.output.was"},
            },
        ],
    }


# --- the story -----------------------------------------------------------------------------------


def main() -> None:
    """Tell the story, and fail if any part of it is not as promised."""
    with tempfile.TemporaryDirectory(prefix="toolgate-") as folder, contextlib.chdir(folder):
        with GateClient(prepare()) as gate:
            for name, body in TOOLS.items():
                gate.register_tool(name, body)
            before = gate.state()

            title(f"{BROKEN} fails its smoke test")
            aborted = carry_out(gate, release(BROKEN))
            rollback = promise(aborted.rollback, "the plan was aborted")
            promise(gate.state() == before, "the state is as it was")
            promise(world() == ("2.3.0", "7"), "version and schema are as they were")
            promise(BROKEN in CHANNEL.read_text(), "what was said stays said")

            title("2.4.1 goes well")
            completed = carry_out(gate, release("2.4.1"))
            promise(completed.succeeded, "the plan was completed, and all of it succeeded")
            promise(world() == ("2.4.1", "8"), "version and schema are new")
            state = gate.state()
            promise(state["live"] == "2.4.1" and state["tests_passed"], "the state says so")
            console.print(f"[bold]state[/]        {escape(str(state))}")

        title("What happened, as the journal tells it")
        undone = [done.uid for done in rollback.compensations if done.action_id == "deploy"]
        command("journal", "show", "--action", promise(undone, "the deployment was undone")[0])
        command("journal", "verify")


def carry_out(gate: GateClient, plan: dict[str, Any]) -> ProposalResult:
    """Verify a plan, run it until it is held, have it approved, and let it run on."""
    found = gate.verify(plan)
    promise(found.valid, "the plan is valid")
    console.print(f"[bold]verified[/]     {len(plan['actions'])} actions, nothing has run")
    for issue in found.issues:
        console.print(f"  {issue.severity:10} {issue.action_id}: {escape(issue.message)}")

    live = LIVE.read_text()
    suspended = gate.propose(plan)
    tell(suspended, plan)
    promise(suspended.suspended and LIVE.read_text() == live, "the deployment waits for a person")
    [hold] = suspended.holds
    console.print()
    command("approvals", "approve", hold.hold_id, "--as", "alice", "--key", "alice.key")

    result = promise(gate.resume(suspended.uid).proposal, "the plan runs on")
    tell(result, plan)
    return result


def tell(told: ProposalResult, plan: dict[str, Any]) -> None:
    """Print how a plan stands, and what an abort has undone."""
    reason = f": {told.error.message}" if told.error else ""
    console.print(f"[bold]{told.status:12}[/] {told.proposal_id}{escape(reason)}")
    compensations = told.rollback.compensations if told.rollback else ()
    undone = {done.action_id for done in compensations if done.status == "succeeded"}
    ran_as = {
        action["compensation"].get("action_id"): action["id"]
        for action in plan["actions"]
        if action["id"] in undone
    }
    for result in told.results:
        said = result.output
        if result.action_id in ran_as:
            said = f"ran only as the compensation of {ran_as[result.action_id]}"
        elif result.error is not None:
            said = result.error.message
        elif result.hold is not None:
            said = result.hold.reason
        elif result.status == "skipped":
            said = "nothing had to be compensated"
        status = "rolled back" if result.rolled_back else result.status
        console.print(f"  {status:12} {result.action_id:8} {escape(str(said or ''))}".rstrip())
    if told.rollback is not None:
        console.print(f"  state as it was:     {', '.join(told.rollback.restored)}")
        for done in told.rollback.compensations:
            console.print(f"  compensated:         {done.action_id} ({done.status})")
        for effect in told.rollback.external_effects:
            console.print(f"  [bold red]cannot be undone:[/]    {effect.action_id} ({effect.tool})")


def world() -> tuple[str, str]:
    """Return the version that is live and the database's schema."""
    return LIVE.read_text(), SCHEMA.read_text()


def prepare() -> Path:
    """Put the world, the config and its policy into this folder, and make alice a key pair."""
    LIVE.write_text("2.3.0")
    SCHEMA.write_text("7")
    shutil.copytree(CONFIGS, ".", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    key = new_private_key(Path("alice.key"))
    os.environ["TOOLGATE_APPROVER_KEY"] = public_key_text(key.public_key())
    os.environ["TOOLGATE_CONFIG"] = "deploy.yaml"
    return Path("deploy.yaml")


def command(*words: str) -> None:
    """Run a `toolgate` command as a person would in this folder."""
    console.print(f"[bold cyan]$ toolgate {escape(' '.join(words))}[/]")
    code = toolgate_command(list(words), standalone_mode=False)
    promise(not code, f"toolgate {words[0]} {words[1]} ends well")
    console.print()


def title(text: str) -> None:
    """Print a heading."""
    console.print()
    console.rule(f"[bold]{text}", align="left", style="dim")


def promise(kept: T | None, what: str) -> T:
    """Return what was promised, or end the program when it is not so."""
    if not kept:
        raise SystemExit(f"not as promised: {what}")
    return kept


if __name__ == "__main__":
    main()
