"""What is wrong with a proposal, before anything of it runs.

The actions are walked through in the order in which they run one after another, each taken to
succeed: a blocked action's effects are applied anyway, so that one problem does not bury the
others. Of a proposal that is no plan only what each action says by itself is looked at.

What compensates an action is looked at as if everything had succeeded and then been undone: with
all outputs, in the state from which the proposal ran. :mod:`toolgate.analysis.issues` lists what
there is to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeAlias

from toolgate import jsonvalue
from toolgate.analysis import slips
from toolgate.analysis.arguments import Tool, argument_problems
from toolgate.analysis.foresight import Foresight, with_parameters
from toolgate.analysis.issues import Code, Issue, Severity, Tier
from toolgate.analysis.order import joined_indirectly, listed_order
from toolgate.ir import Action, ActionProposal, ActionType, ToolCompensation
from toolgate.jsonvalue import JSONValue
from toolgate.plan import effects
from toolgate.plan.effects import read_keys, written_keys
from toolgate.plan.graph import Graph, PlanError, build
from toolgate.plan.references import UnresolvedReference

Judge: TypeAlias = Callable[
    [Action, dict[str, JSONValue], Mapping[str, JSONValue]],
    tuple[Literal["forbid", "deny", "hold"], str, Sequence[str]] | None,
]
"""What would be said of an action with these parameters in this state: None to allow it; else that
its session's capabilities ``forbid`` it, or policy's effect, with the reason and the ids of the
rules."""

_SAID: Final[Mapping[str, tuple[Code, str]]] = {
    "forbid": ("capability_denied", ""),
    "deny": ("policy_denied", "policy would deny it: "),
    "hold": ("policy_held", "policy would hold it for a person's approval: "),
}

_SHOWN: Final = 8


class Tools(Protocol):
    """The tools there are: any mapping of names will do."""

    def get(self, name: str, /) -> Tool | None:
        """Return a tool, None when nobody has registered it."""
        ...


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that was found.

    ``simulated_state`` is what the walk leaves; ``execution_levels`` are those of the graph, none
    for a proposal that is no plan; ``conflicts`` are unordered writers and their key: (a, b, key).
    """

    issues: tuple[Issue, ...]
    simulated_state: dict[str, JSONValue]
    execution_levels: list[list[str]]
    conflicts: tuple[tuple[str, str, str], ...]

    @property
    def valid(self) -> bool:
        """Whether no issue is an error."""
        return not any(issue.severity == "error" for issue in self.issues)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "valid": self.valid,
            "issues": [issue.to_json() for issue in self.issues],
            "simulated_state": self.simulated_state,
            "execution_levels": self.execution_levels,
            "conflicts": [list(conflict) for conflict in self.conflicts],
        }


def verify(
    proposal: ActionProposal,
    tools: Tools | None,
    state: Mapping[str, JSONValue],
    *,
    judge: Judge | None = None,
    max_actions: int | None = None,
    sent: Mapping[str, JSONValue] | None = None,
) -> Verification:
    """Find what is wrong with a proposal that is to run from ``state``, which is not changed.

    ``tools`` of None: nothing is known of tools, and calls are not checked against them. ``judge``
    is asked about every call that is well-formed and of a registered tool, about every state
    action, and about what compensates. ``sent`` is the JSON that the proposal was read from: only
    that shows fields that there are none of. Linear in actions and edges.
    """
    issues = list(_of_the_whole(proposal, max_actions))
    if sent is not None:
        issues += slips.of_sent(sent, proposal)
    issues += slips.of_proposal(proposal)
    foresight = Foresight(state)
    try:
        graph = build(proposal.actions)
    except PlanError as error:
        issues += [
            Issue(problem.ids[0], "error", problem.code, problem.message)
            for problem in error.problems
        ]
        for action in proposal.actions:
            issues += _of_itself(action, tools)
        return Verification(tuple(issues), dict(state), [], ())

    actions = {action.id: action for action in proposal.actions}
    written = frozenset().union(*map(written_keys, proposal.actions))
    walk = _Walk(tools, judge, foresight, written)
    for id in listed_order(graph):
        issues += walk.step(actions[id])
    for id in graph.ids:
        if id in graph.compensators:
            issues += _of_itself(actions[id], tools)
    left = foresight.state
    foresight.restore(state)
    for action in proposal.actions:
        issues += walk.compensation(action, actions)
    conflicts = tuple(_conflicts(proposal.actions, graph))
    issues += [
        Issue(
            later,
            "warning",
            "unordered_writers",
            f"{earlier!r} and {later!r} both write state key {key!r}, and only their places in the "
            f"list say that {later!r} does so last: make it depend on the other",
        )
        for earlier, later, key in conflicts
    ]
    return Verification(tuple(issues), left, graph.levels(), conflicts)


class _Walk:
    """Looks at one action after another, and goes on as if it had succeeded."""

    def __init__(
        self,
        tools: Tools | None,
        judge: Judge | None,
        foresight: Foresight,
        written: frozenset[str],
    ) -> None:
        self._tools = tools
        self._judge = judge
        self._foresight = foresight
        self._written = written

    def step(self, action: Action) -> list[Issue]:
        """Return what is wrong with the next action."""
        foresight = self._foresight
        found: list[Issue] = []
        known = True
        parameters = action.parameters
        try:
            parameters, known = foresight.resolved(parameters)
        except UnresolvedReference as error:
            found.append(Issue(action.id, "error", "unresolved", str(error)))
            found += _of_itself(action, self._tools)
        else:
            resolved = with_parameters(action, parameters)
            found += _of_itself(resolved, self._tools, unknown=not known)
            if action.type is not ActionType.TOOL_CALL and not foresight.knows_key(action):
                message = "which state key it is about is only known when it runs"
                found.append(Issue(action.id, "warning", "unknown_key", message))
        found += self._of_state(action)
        refused = {issue.code for issue in found if issue.severity == "error"}
        if self._judge is not None and not refused & _BEFORE_POLICY:
            found += self._of_policy(self._judge, action, parameters, known=known)
        if refused & {"invalid_action", "unresolved"}:
            foresight.commit(action.expected_effects)
        elif (failed := foresight.carry_out(action, parameters)) is not None:
            found.append(Issue(action.id, "error", "assertion", failed))
            foresight.commit(action.expected_effects)
        return found

    def _of_state(self, action: Action) -> Iterator[Issue]:
        for key in self._foresight.missing_keys(action):
            message = f"state key {key!r}, which it depends on, does not exist when it runs"
            yield Issue(action.id, "error", "missing_key", message)
        for condition, message in self._foresight.failures(action.preconditions):
            tier: Tier = "heuristic" if condition.key in self._written else "decision_procedure"
            yield Issue(action.id, "error", "precondition", message, tier)

    def compensation(self, action: Action, actions: Mapping[str, Action]) -> Iterator[Issue]:
        """Return what would be said of what compensates an action, if that ever runs."""
        undo = action.compensation
        if undo is None or action.reversibility == "irreversible":
            return
        if isinstance(undo, ToolCompensation):
            call = ActionType.TOOL_CALL
            does = Action(id=action.id, type=call, tool=undo.tool, parameters=undo.parameters)
        else:
            does = actions[undo.action_id]
        try:
            parameters, _ = self._foresight.resolved(does.parameters)
        except UnresolvedReference as error:
            yield Issue(action.id, "error", "unresolved", str(error)).of_compensation()
            return
        refused = {issue.code for issue in _of_itself(does, self._tools)}
        if self._judge is not None and not refused & _BEFORE_POLICY:
            for issue in self._of_policy(self._judge, does, parameters, known=False):
                yield replace(issue, action_id=action.id).of_compensation()

    def _of_policy(
        self, judge: Judge, action: Action, parameters: dict[str, JSONValue], *, known: bool
    ) -> Iterator[Issue]:
        verdict = judge(action, parameters, self._foresight.state)
        if verdict is not None:
            effect, reason, rules = verdict
            by = f" (rules: {', '.join(rules)})" if rules else ""
            code, said = _SAID[effect]
            tier: Tier = "decision_procedure" if known else "heuristic"
            yield Issue(action.id, "info", code, f"{said}{reason}{by}", tier)


_BEFORE_POLICY = frozenset({"invalid_action", "unresolved", "unregistered_tool"})


def _of_the_whole(proposal: ActionProposal, max_actions: int | None) -> Iterator[Issue]:
    count = len(proposal.actions)
    if max_actions is not None and count > max_actions:
        message = f"the proposal has {count} actions, and at most {max_actions} are allowed"
        yield Issue(None, "error", "too_many_actions", message)
    calls: dict[tuple[str, bytes], list[str]] = {}
    for action in proposal.actions:
        if action.type is ActionType.TOOL_CALL and action.tool:
            content = action.tool, jsonvalue.canonical(action.parameters)
            calls.setdefault(content, []).append(action.id)
    for (tool, _), ids in calls.items():
        if len(ids) > 1:
            named = ", ".join(map(repr, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")
            message = f"the same call of {tool!r}, {len(ids)} times: {named}"
            severity: Severity = "warning" if len(ids) == 2 else "error"
            yield Issue(ids[1], severity, "repeated_call", message, "heuristic")


def _of_itself(action: Action, tools: Tools | None, *, unknown: bool = True) -> Iterator[Issue]:
    """Find what is wrong with an action whatever the state; ``unknown``: references are left."""
    malformed = effects.malformed(action)
    if malformed is not None:
        yield Issue(action.id, "error", "invalid_action", malformed)
    elif action.type is ActionType.TOOL_CALL and action.tool is not None:
        yield from _of_call(action.id, action.tool, action.parameters, tools, unknown=unknown)
    compensation = action.compensation
    if isinstance(compensation, ToolCompensation):
        for issue in _of_call(action.id, compensation.tool, compensation.parameters, tools):
            yield issue.of_compensation()


def _of_call(
    id: str,
    name: str,
    parameters: dict[str, JSONValue],
    tools: Tools | None,
    *,
    unknown: bool = True,
) -> Iterator[Issue]:
    """Find what is wrong with a call of the tool ``name``."""
    if tools is None:
        return
    tool = tools.get(name)
    if tool is None:
        message = f"no tool named {name!r} is registered"
        yield Issue(id, "error", "unregistered_tool", message)
        return
    for problem in argument_problems(tool, parameters, unknown=unknown):
        where = f"{problem.pointer or '/'}: {problem.message}"
        yield Issue(id, "error", "invalid_arguments", where)


def _conflicts(actions: Sequence[Action], graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Find successive writers of a key that nothing but their places in the list puts in order.

    What does is a path of dependencies, references, and reads of what another action has written.
    """
    intended: dict[str, set[str]] = {}
    writer: dict[str, str] = {}
    pairs: list[tuple[str, str, str]] = []
    for action in actions:
        if action.id in graph.compensators:
            continue
        before = intended[action.id] = set(graph.required[action.id])
        before.update(writer[key] for key in read_keys(action) if key in writer)
        for key in sorted(written_keys(action)):
            if key in writer:
                pairs.append((writer[key], action.id, key))
            writer[key] = action.id
    open_pairs = {(a, b) for a, b, _ in pairs if a not in intended[b]}
    if open_pairs:
        open_pairs -= joined_indirectly(listed_order(graph), intended, open_pairs)
    return (pair for pair in pairs if pair[:2] in open_pairs)
