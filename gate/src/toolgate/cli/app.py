"""The command's tree: which function answers which word."""

from __future__ import annotations

from typing import Annotated

import typer

from toolgate import __version__
from toolgate.cli import (
    actions,
    agents,
    analysis,
    approvals,
    journal,
    keys,
    labels,
    policy,
    proposals_list,
)
from toolgate.cli.check import check
from toolgate.cli.runtime import gate as run_gate_for_lodestar
from toolgate.cli.schema import schema
from toolgate.cli.serve import serve as run_gate
from toolgate.cli.terminal import ConfigOption

app = typer.Typer(
    help="Govern what AI agents do: every tool call is validated, judged by policy, and journaled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(actions.app, name="actions")
app.add_typer(agents.app, name="agents")
app.add_typer(approvals.app, name="approvals")
app.add_typer(journal.app, name="journal")
app.add_typer(keys.app, name="keys")
app.add_typer(labels.app, name="labels")
app.add_typer(policy.app, name="policy")
app.add_typer(proposals_list.app, name="proposals")
app.command()(check)
app.command()(schema)
for command in (
    analysis.verify,
    analysis.simulate,
    analysis.equivalent,
    analysis.optimize,
    analysis.rank,
):
    app.command()(command)


@app.command()
def serve(config: ConfigOption) -> None:
    """Run the gate as a sidecar: JSON-RPC on stdin and stdout."""
    raise typer.Exit(run_gate(str(config)))


runtime = typer.Typer(help="The gate for clients of another runtime.", no_args_is_help=True)
app.add_typer(runtime, name="runtime")


@runtime.command("gate")
def runtime_gate(config: ConfigOption) -> None:
    """Run the gate as a sidecar for Lodestar's clients. The config is Toolgate's."""
    raise typer.Exit(run_gate_for_lodestar(str(config)))


# Without it a group of one command would be that command.
@runtime.callback()
def _runtime() -> None:
    pass


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Govern what AI agents do."""
    if version:
        typer.echo(f"toolgate {__version__}")
        raise typer.Exit
