"""``toolgate agents``: the agents that ship and those of a config, and what they are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from toolgate.agents import AgentRegistry, format_payload
from toolgate.cli.terminal import (
    JSONOption,
    config_of,
    console,
    one_line,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.errors import ToolgateError

_OptionalConfig: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TOOLGATE_CONFIG",
        help="The gate's config file: adds its agents.",
        metavar="FILE",
        show_default=False,
    ),
]


class UnknownCapability(ToolgateError):
    """No agent can be asked for that; the message has what they can be asked for."""


app = typer.Typer(help="Built-in agents, and those of a config.", no_args_is_help=True)


@app.command("list")
def list_agents(
    config: _OptionalConfig = None,
    capability: Annotated[
        str | None,
        typer.Option("--capability", help="Only those that have it.", show_default=False),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """List the agents, and what each can be asked for."""
    with reported():
        registry = _registry(config)
        found = tuple(registry) if capability is None else registry.agents_for(capability)
        if not found:
            known = sorted({name for agent in registry for name in agent.capabilities})
            raise UnknownCapability(
                f"no agent has the capability {capability!r}; there are: {', '.join(known)}"
            )
    if as_json:
        print_json([agent.to_json() for agent in found])
        return
    table = Table("id", "name", "capabilities", "description")
    for agent in found:
        capabilities = ", ".join(agent.capabilities)
        cells = (agent.id, agent.name, capabilities, agent.description)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    print_table(table)


@app.command()
def show(
    agent_id: Annotated[str, typer.Argument(metavar="ID", help="An agent's id.")],
    config: _OptionalConfig = None,
    as_json: JSONOption = False,
) -> None:
    """Show one agent with its system prompt."""
    with reported():
        agent = _registry(config).get(agent_id)
    if as_json:
        print_json(agent.to_json())
        return
    for label, text in (
        ("id", agent.id),
        ("name", agent.name),
        ("about", agent.description),
        ("can", ", ".join(agent.capabilities)),
    ):
        console.print(Text.assemble((f"{label:6}", "bold"), one_line(text)), soft_wrap=True)
    console.print(Text(f"\n{printable(agent.system_prompt)}"), soft_wrap=True)


@app.command("format")
def format_task(
    capability: Annotated[str, typer.Argument(help="What is asked for: summarize, research, …")],
    payload: Annotated[
        str, typer.Argument(metavar="JSON", help='Its payload: {"text": "…"}; - reads it.')
    ],
    as_json: JSONOption = False,
) -> None:
    """Turn a capability's JSON into the task that an agent is given."""
    with reported():
        task = format_payload(capability, sys.stdin.buffer.read() if payload == "-" else payload)
    if as_json:
        print_json({"capability": capability, "task": task})
        return
    console.print(Text(printable(task)), soft_wrap=True)


def _registry(config: Path | None) -> AgentRegistry:
    entries = () if config is None else config_of(config).agents
    return AgentRegistry(entry.profile for entry in entries)
