"""``toolgate verify|simulate|equivalent|optimize|rank``: what can be said of proposals in files.

With a config the answers are those that a gate started afresh with it would give, but nothing is
written: its journal is one in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from toolgate import analysis
from toolgate.analysis import Verification
from toolgate.cli.proposals import (
    InputError,
    read_proposal,
    read_state,
    read_target,
    read_tools,
)
from toolgate.cli.terminal import (
    NO,
    JSONOption,
    config_of,
    console,
    errors,
    one_line,
    pretty,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.config import GateConfig, MemoryJournal
from toolgate.errors import SchemaError
from toolgate.ir import ActionProposal, CostTarget, ToolCompensation, ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.tools import ToolConflict, ToolRegistry
from toolgate.plan.graph import problems_of
from toolgate.policy import contract_for
from toolgate.runtime import Runtime

_FileArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A proposal (JSON or YAML).", show_default=False),
]
_FilesArgument: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="FILES", help="Proposals (JSON or YAML).", show_default=False),
]
_ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TOOLGATE_CONFIG",
        help="A gate's config: its contracts, policy, capabilities and state are applied.",
        metavar="FILE",
        show_default=False,
    ),
]
_StateConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TOOLGATE_CONFIG",
        help="A gate's config, of which only the initial state counts: it is the state before.",
        metavar="FILE",
        show_default=False,
    ),
]
_ToolsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        help="The tools there are, as a client registers them; without it, every name is one.",
        metavar="FILE",
        show_default=False,
    ),
]
_StateOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="The session's state before; by default the config's, or none.",
        metavar="FILE",
        show_default=False,
    ),
]
_StatesOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--state",
        help='A state to compare from; may be repeated. By default {} and {"x": 1, "y": 2}.',
        metavar="FILE",
        show_default=False,
    ),
]
_TargetOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--target", help="What a plan should cost.", metavar="FILE", show_default=False),
]
_COLOURS = {"error": "bold red", "warning": "bold yellow", "info": "cyan"}


def verify(
    file: _FileArgument,
    config: _ConfigOption = None,
    tools: _ToolsOption = None,
    state: _StateOption = None,
    as_json: JSONOption = False,
) -> None:
    """Find what is wrong with a proposal before anything of it runs."""
    with reported():
        proposal, sent = read_proposal(file)
        with _desk(config, tools, state, [proposal]) as desk:
            found = desk.verify(proposal, sent=sent)
    if as_json:
        print_json(found.to_json())
    else:
        _print_verification(found)
    if not found.valid:
        raise typer.Exit(NO)


def simulate(
    file: _FileArgument,
    config: _StateConfigOption = None,
    state: _StateOption = None,
    as_json: JSONOption = False,
) -> None:
    """Show the state that executing a proposal would leave."""
    with reported():
        proposal = read_proposal(file).proposal
        before = _state(None if config is None else config_of(config), state)
    _refuse_what_is_no_plan({file: proposal})
    simulation = analysis.simulate(proposal, before)
    if as_json:
        print_json(simulation.to_json())
        return
    for id, status in simulation.statuses.items():
        console.print(Text(f"{one_line(id)}: {status.value}"), soft_wrap=True)
    console.print(Text(f"state: {pretty(simulation.state)}"), soft_wrap=True)


def equivalent(
    file: Annotated[
        Path, typer.Argument(metavar="A", help="A proposal (JSON or YAML).", show_default=False)
    ],
    other: Annotated[
        Path, typer.Argument(metavar="B", help="Another proposal.", show_default=False)
    ],
    state: _StatesOption = None,
    as_json: JSONOption = False,
) -> None:
    """Compare the states that two proposals would leave."""
    with reported():
        plans = {path: read_proposal(path).proposal for path in (file, other)}
        states = [read_state(path) for path in state or ()]
    _refuse_what_is_no_plan(plans)
    a, b = plans[file], plans[other]
    found = analysis.equivalent(a, b, states) if states else analysis.equivalent(a, b)
    if as_json:
        print_json(found.to_json())
    elif found.equivalent:
        console.print("equivalent from every state that was tried")
    else:
        for difference in found.differences:
            for label, left in (
                ("from", difference.state),
                ("A", difference.a),
                ("B", difference.b),
            ):
                console.print(Text(f"{label:5}{pretty(left)}"), soft_wrap=True)
    if not found.equivalent:
        raise typer.Exit(NO)


def optimize(
    file: _FileArgument,
    config: _StateConfigOption = None,
    state: _StateOption = None,
    as_json: JSONOption = False,
) -> None:
    """Take needless waits out of a proposal, never changing what happens."""
    with reported():
        proposal = read_proposal(file).proposal
        before = _state(None if config is None else config_of(config), state)
    _refuse_what_is_no_plan({file: proposal})
    optimized = analysis.optimize(proposal, before)
    if as_json:
        print_json(optimized.to_json())
        return
    for item in optimized.removed:
        what = "dependencies" if item.kind == "dependency" else "state_dependencies"
        line = f"{one_line(item.action_id)}: {what} need not name {one_line(item.on)}"
        console.print(Text(line), soft_wrap=True)
    if not optimized.removed:
        console.print("nothing is needless")


def rank(
    files: _FilesArgument,
    config: _ConfigOption = None,
    tools: _ToolsOption = None,
    state: _StateOption = None,
    target: _TargetOption = None,
    as_json: JSONOption = False,
) -> None:
    """Order proposals, the best to try first."""
    with reported():
        read = [read_proposal(file) for file in files]
        proposals, sent = [each.proposal for each in read], [each.document for each in read]
        wanted = CostTarget() if target is None else read_target(target)
        with _desk(config, tools, state, proposals) as desk:
            ranking = desk.rank(proposals, wanted, sent=sent)
    if as_json:
        print_json({"ranking": [item.to_json() for item in ranking]})
    else:
        table = Table("file", "proposal", "score", "valid", "success", "cost efficiency")
        for item in ranking:
            numbers = (item.success_likelihood, item.cost_efficiency)
            table.add_row(
                Text(one_line(files[item.index])),
                Text(one_line(item.proposal_id)),
                f"{item.score:.3f}",
                "yes" if item.valid else "no",
                *(f"{number:.3f}" for number in numbers),
            )
        print_table(table)
    if not any(item.valid for item in ranking):
        raise typer.Exit(NO)


class _Alone:
    """Verifies and ranks without a config: nobody knows its contracts or its policy."""

    def __init__(self, tools: ToolRegistry | None, state: dict[str, JSONValue]) -> None:
        self._tools = tools
        self._state = state

    def verify(self, proposal: ActionProposal, *, sent: Mapping[str, JSONValue]) -> Verification:
        return analysis.verify(proposal, self._tools, self._state, sent=sent)

    def rank(
        self,
        candidates: Sequence[ActionProposal],
        target: CostTarget,
        *,
        sent: Sequence[Mapping[str, JSONValue]],
    ) -> list[analysis.Ranked]:
        return analysis.rank(candidates, target, self._tools, self._state, sent=sent)


class _NoRunner:
    """What runs tools where none ever runs."""

    def run(self, order: object, on_reply: object) -> None:
        raise NotImplementedError

    def cancel(self, uid: str, reason: str) -> None:
        raise NotImplementedError


@contextmanager
def _desk(
    config: Path | None,
    tools: Path | None,
    state: Path | None,
    proposals: Iterable[ActionProposal],
) -> Iterator[Runtime | _Alone]:
    """Return what verifies and ranks, knowing what the files say; raises ToolgateError."""
    loaded = None if config is None else config_of(config)
    before = _state(loaded, state)
    declared = None if tools is None else read_tools(tools)
    if loaded is None:
        registry = None
        if tools is not None and declared is not None:
            registry = ToolRegistry(lambda name: contract_for(name, None))
            _register(registry, tools, declared)
        yield _Alone(registry, before)
        return
    memory = {"journal": MemoryJournal(), "session": "auto", "state": before}
    runtime = Runtime(loaded.model_copy(update=memory), _NoRunner())
    try:
        if tools is not None and declared is not None:
            _register(runtime.tools, tools, declared)
        else:
            names = {name for proposal in proposals for name in _tools_of(proposal)}
            undeclared = [ToolSchema(name=name) for name in sorted(names)]
            _register(runtime.tools, loaded.source.name, undeclared)
        yield runtime
    finally:
        runtime.close("answered")


def _tools_of(proposal: ActionProposal) -> Iterator[str]:
    """Iterate over the tools that a proposal calls, or would call to compensate."""
    for action in proposal.actions:
        if action.tool:
            yield action.tool
        if isinstance(action.compensation, ToolCompensation) and action.compensation.tool:
            yield action.compensation.tool


def _register(registry: ToolRegistry, source: Path | str, declared: Iterable[ToolSchema]) -> None:
    problems = []
    for tool in declared:
        try:
            registry.register(tool)
        except (SchemaError, ToolConflict) as error:
            problems.append(str(error))
    if problems:
        raise InputError(str(source), problems)


def _state(config: GateConfig | None, path: Path | None) -> dict[str, JSONValue]:
    if path is not None:
        return read_state(path)
    return {} if config is None else config.state


def _refuse_what_is_no_plan(proposals: dict[Path, ActionProposal]) -> None:
    """Exit with 1, and say why, when a proposal could not be run at all."""
    refused = False
    for path, proposal in proposals.items():
        for problem in problems_of(proposal.actions):
            refused = True
            said = printable(f"{path}: {problem.message}")
            errors.print(Text.assemble(("error: ", "bold red"), said), soft_wrap=True)
    if refused:
        raise typer.Exit(NO)


def _print_verification(found: Verification) -> None:
    for issue in found.issues:
        where = "" if issue.action_id is None else f"{one_line(issue.action_id)}: "
        said = f"{where}{one_line(issue.message)} [{issue.code}]"
        guess = " (a guess)" if issue.tier == "heuristic" else ""
        label = (f"{issue.severity}: ", _COLOURS[issue.severity])
        console.print(Text.assemble(label, said, guess), soft_wrap=True)
    for number, level in enumerate(found.execution_levels, start=1):
        ids = ", ".join(one_line(id) for id in level)
        console.print(Text.assemble((f"level {number}: ", "bold"), ids), soft_wrap=True)
    console.print(Text(f"state: {pretty(found.simulated_state)}"), soft_wrap=True)
    console.print("valid" if found.valid else "not valid")
