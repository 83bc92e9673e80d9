"""What is wrong with a proposal, before anything of it runs.

The actions are walked through in the order in which they run one after another, each taken to
succeed: a blocked action's effects are applied anyway, so that one problem does not bury the
others. Of a proposal that is no plan only what each action says by itself is looked at.

================== ======== ==================================================================
code               severity what it says
================== ======== ==================================================================
duplicate_id       error    two actions have one id
unknown_id         error    an action names an id that is no action's, or a compensator's
cycle              error    actions wait for each other
too_many_actions   error    there are more than ``max_actions``
invalid_action     error    a tool call without a tool, a state action without a key
unregistered_tool  error    nobody has registered the tool, or that of the compensation
invalid_arguments  error    the arguments do not match the tool's schemas
unresolved         error    a reference leads to nothing in an output that is known
missing_key        error    a key of ``state_dependencies`` is not there when the action runs
precondition       error    a precondition does not hold then
assertion          error    an assertion does not hold then
repeated_call      warning  the same call twice; an error, three times and more (heuristic)
unordered_writers  warning  only their place in the list says which of two writes a key last
no_compensation    warning  an action is ``compensable`` and names no compensation
unknown_key        warning  which key a state action is about is only known when it runs
policy_denied      info     policy, as it is, would deny the action
policy_held        info     policy, as it is, would hold the action for a person
================== ======== ==================================================================

A *decision procedure* is right whenever every tool succeeds and nobody else writes the state. A
*heuristic* may be wrong: a precondition on a key that the plan itself writes (preconditions make no
edges, so the order may be another), policy's word on arguments that are not known yet, and the same
call several times, which may be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeAlias

from toolgate import jsonvalue
from toolgate.analysis.arguments import Tool, argument_problems
from toolgate.analysis.foresight import Foresight, with_parameters
from toolgate.analysis.order import joined_indirectly, listed_order
from toolgate.ir import Action, ActionProposal, ActionType, ToolCompensation
from toolgate.jsonvalue import JSONValue
from toolgate.plan import effects
from toolgate.plan.effects import read_keys, written_keys
from toolgate.plan.graph import Graph, PlanError, build
from toolgate.plan.references import UnresolvedReference

Severity: TypeAlias = Literal["error", "warning", "info"]
Code: TypeAlias = Literal[
    "duplicate_id",
    "unknown_id",
    "cycle",
    "too_many_actions",
    "invalid_action",
    "unregistered_tool",
    "invalid_arguments",
    "unresolved",
    "missing_key",
    "precondition",
    "assertion",
    "repeated_call",
    "unordered_writers",
    "no_compensation",
    "unknown_key",
    "policy_denied",
    "policy_held",
]
Tier: TypeAlias = Literal["decision_procedure", "heuristic"]
Judge: TypeAlias = Callable[
    [Action, dict[str, JSONValue], Mapping[str, JSONValue]],
    tuple[Literal["deny", "hold"], str, Sequence[str]] | None,
]
"""What current policy says of an action with these parameters in this state: None to allow it, else
the effect, the reason and the ids of the rules."""

_SHOWN: Final = 8


class Tools(Protocol):
    """The tools there are: any mapping of names will do."""

    def get(self, name: str, /) -> Tool | None:
        """Return a tool, None when nobody has registered it."""
        ...


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. ``action_id`` is the action it is about, None for the proposal as a whole."""

    action_id: str | None
    severity: Severity
    code: Code
    message: str
    tier: Tier = "decision_procedure"

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "action_id": self.action_id,
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "tier": self.tier,
        }


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
) -> Verification:
    """Find what is wrong with a proposal that is to run from ``state``, which is not changed.

    ``tools`` of None: nothing is known of tools, and calls are not checked against them. ``judge``
    is asked about every call that is well-formed and of a registered tool, and about every state
    action. Linear in actions and edges.
    """
    issues = list(_of_the_whole(proposal, max_actions))
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
    return Verification(tuple(issues), foresight.state, graph.levels(), conflicts)


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

    def _of_policy(
        self, judge: Judge, action: Action, parameters: dict[str, JSONValue], *, known: bool
    ) -> Iterator[Issue]:
        verdict = judge(action, parameters, self._foresight.state)
        if verdict is not None:
            effect, reason, rules = verdict
            by = f" (rules: {', '.join(rules)})" if rules else ""
            said = "deny it" if effect == "deny" else "hold it for a person's approval"
            code: Code = "policy_denied" if effect == "deny" else "policy_held"
            message = f"policy would {said}: {reason}{by}"
            tier: Tier = "decision_procedure" if known else "heuristic"
            yield Issue(action.id, "info", code, message, tier)


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
            yield replace(issue, message=f"its compensation: {issue.message}")
    elif compensation is None and action.reversibility == "compensable":
        message = "it is compensable and names no compensation, so an abort does not undo it"
        yield Issue(action.id, "warning", "no_compensation", message)


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
