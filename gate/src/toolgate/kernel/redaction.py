"""What everybody may read of a call whose tool's contract has ``redact`` pointers. Pure.

1. The value that a pointer (RFC 6901, into the arguments) names is shown as ``redacted:`` and the
   start of an HMAC of its canonical JSON, under a key derived from the journal's: the same value
   looks the same throughout one journal, and nobody without the key can try a guess.
2. A call that was not found valid is shown with every one of its values replaced: a misspelt field
   is no way round. Where any contract redacts, neither is a misspelt tool: a call of one that
   nobody has spoken of is shown so too.
3. Texts about the call lose these values wherever they quote them, in the spellings of Python and
   of JSON. A text may still tell a value in words of its own, or a part of a long one.
4. The arguments themselves are in the action's own row until it has ended, and for approvers. What
   is put in their place then is what the log has shown from the beginning.

Digests of the arguments (a call's content, a hold's) are made under the key too, so that they do
not give away what the log hides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from toolgate import jsonvalue
from toolgate.approvals.hold import MARK
from toolgate.ir import Action, OutcomeError, ToolCompensation
from toolgate.jsonvalue import JSONValue
from toolgate.plan.graph import PlanProblem
from toolgate.policy.verdict import RuleError, Verdict

Keyed: TypeAlias = Callable[[bytes], bytes]
"""HMAC-SHA256 of a message under the key that is derived for redaction."""

_DIGITS: Final = 32
"""Hex digits of the HMAC that are shown: 128 bits."""
_SHORT: Final = 4
"""Shorter values are replaced in a text only where they stand alone, as a word or a number."""
_MOST_WORK: Final = 100_000_000
"""Characters that may be looked at to find what a text quotes; some 20 ms."""
_EACH: Final = 1000
"""What one spelling costs besides, in characters."""

_Tree: TypeAlias = "dict[str, _Tree | None]"
"""Where pointers lead, name by name; ``None``: to here."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """One call's arguments as everybody may see them.

    ``pointers`` name the values that ``args`` shows as digests; ``secrets`` are these values.
    ``unchecked``: nobody has found the call valid yet.
    """

    pointers: tuple[str, ...]
    args: dict[str, JSONValue]
    secrets: tuple[JSONValue, ...]
    keyed: Keyed
    unchecked: bool = False

    @property
    def args_json(self) -> bytes:
        """The canonical JSON of ``args``."""
        return jsonvalue.canonical(self.args)

    def leaf_by_leaf(self, args: dict[str, JSONValue]) -> dict[str, JSONValue]:
        """Return arguments with every string and number in what is secret replaced by itself."""
        for pointer in self.pointers:
            found = jsonvalue.value_at(args, pointer)
            if found is not None:
                leaves = [jsonvalue.pointer((*found[0], *path)) for path in _leaf_paths(found[1])]
                args = redact(args, leaves, self.keyed).args
        return args

    def text(self, text: str) -> str:
        """Return a text about the call without the secret values it quotes."""
        found = _quoted(text, self.secrets)
        if found is None:
            return "(left out: it may quote redacted arguments, and it takes too long to look)"
        told, end = [], 0
        for start, stop, value in found:
            told += [text[end:start], shown(value, self.keyed)]
            end = stop
        return "".join([*told, text[end:]])

    def json(self, value: Any) -> Any:
        """Return a JSON value about the call with every string in it as :meth:`text` has it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {key: self.json(item) for key, item in value.items()}
        return value

    def error(self, error: OutcomeError) -> OutcomeError:
        """Return an error of the call without the secret values it quotes."""
        return OutcomeError(error.kind, self.text(error.message), self.json(error.details))

    def verdict(self, verdict: Verdict) -> Verdict:
        """Return policy's verdict on the call without what the errors of its conditions quote.

        An error keeps its first words, which say what kind it is: CEL spells values in ways of its
        own, and cuts them.
        """
        observed = None if verdict.observed is None else self.verdict(verdict.observed)
        if not verdict.errors and observed is verdict.observed:
            return verdict
        reason = verdict.reason
        for said in sorted({item.error for item in verdict.errors} - {""}, key=len, reverse=True):
            reason = reason.replace(said, kind_of(said))
        errors = tuple(RuleError(item.rule, kind_of(item.error)) for item in verdict.errors)
        return replace(verdict, reason=reason, errors=errors, observed=observed)


class Redactor:
    """What the contracts of one deployment keep secret."""

    def __init__(
        self,
        pointers: Mapping[str, tuple[str, ...]],
        keyed: Keyed,
        known: Callable[[str], bool],
    ) -> None:
        """``pointers`` are the contracts' by tool; ``known`` tells whether there is such a tool.

        A known tool that is not among the pointers hides nothing.
        """
        self._pointers = {tool: names for tool, names in pointers.items() if names}
        self._known = known
        self.keyed = keyed

    def unchecked(self, tool: str, args: dict[str, JSONValue]) -> Redaction | None:
        """Return the redaction of a call whose arguments nobody has checked; ``None``: it has none.

        All of its values are replaced.
        """
        if not self.covers(tool):
            return None
        return replace(redact(args, everything(args), self.keyed), unchecked=True)

    def checked(self, tool: str, args: dict[str, JSONValue]) -> Redaction | None:
        """Return the redaction of a call whose arguments are valid; ``None``: it has none."""
        pointers = self._pointers.get(tool)
        return None if pointers is None else redact(args, pointers, self.keyed)

    def compensation(self, compensation: Any) -> Any:
        """Return the JSON of what compensates an action as everybody may see it."""
        if compensation is None or not self.covers(compensation.get("tool")):
            return compensation
        return self._covered(compensation)

    def proposal(self, plan: dict[str, Any]) -> dict[str, Any] | None:
        """Return a proposal's JSON as everybody may see it; ``None``: as it is.

        The parameters in it have not been checked, so all of them are replaced where the tool
        hides any, and where what compensates an action does.
        """
        if not any(self._hides(action) for action in plan["actions"]):
            return None
        return {**plan, "actions": [self._planned(action) for action in plan["actions"]]}

    def problem(self, problem: PlanProblem, actions: Sequence[Action]) -> PlanProblem:
        """Return what is wrong with a proposal without what redacted parameters refer to."""
        by_id = {action.id: action for action in actions}
        action = by_id.get(problem.ids[0])
        if problem.code != "unknown_id" or action is None or problem.ids[-1] in by_id:
            return problem
        undo = action.compensation
        tools = [action.tool, undo.tool if isinstance(undo, ToolCompensation) else None]
        open_ = [*action.dependencies, getattr(undo, "action_id", None)]
        if problem.ids[-1] in open_ or not any(map(self.covers, tools)):
            return problem
        message = f"{action.id!r} refers to the output of {MARK}…, and no action has that id"
        return PlanProblem(problem.code, message, (action.id,))

    def _hides(self, action: dict[str, Any]) -> bool:
        compensation = action.get("compensation") or {}
        return self.covers(action.get("tool")) or self.covers(compensation.get("tool"))

    def _planned(self, action: dict[str, Any]) -> dict[str, Any]:
        if not self._hides(action):
            return action
        compensation = self.compensation(action.get("compensation"))
        if self.covers(action.get("tool")):
            action = self._covered(action)
        return {**action, "compensation": compensation}

    def covers(self, tool: str | None) -> bool:
        """Tell whether the arguments of a call that nobody has checked are hidden."""
        if tool is None or not self._pointers:
            return False
        return tool in self._pointers or not self._known(tool)

    def _covered(self, call: dict[str, Any]) -> dict[str, Any]:
        args = call["parameters"]
        return {**call, "parameters": redact(args, everything(args), self.keyed).args}


def redact(args: dict[str, JSONValue], pointers: Iterable[str], keyed: Keyed) -> Redaction:
    """Return arguments with the values that ``pointers`` name replaced; others are passed over."""
    names = tuple(sorted(set(pointers)))
    secrets: list[JSONValue] = []
    tree: _Tree = {}
    for name in names:
        branch: _Tree | None = tree
        *way, last = jsonvalue.pointer_parts(name)
        for part in way:
            branch = None if branch is None else branch.setdefault(part, {})
        if branch is not None:
            branch[last] = None
    replaced = _replaced(args, tree, keyed, secrets)
    return Redaction(names, replaced, tuple(secrets), keyed)


def everything(args: Mapping[str, JSONValue]) -> tuple[str, ...]:
    """Return the pointers that name every member of the arguments."""
    return tuple(jsonvalue.pointer((name,)) for name in args)


def shown(value: JSONValue, keyed: Keyed) -> str:
    """Return what is shown in place of a value."""
    return MARK + keyed(b"value\n" + jsonvalue.canonical(value)).hex()[:_DIGITS]


def _replaced(value: Any, tree: _Tree, keyed: Keyed, secrets: list[JSONValue]) -> Any:
    """Return ``value`` with what ``tree`` leads to replaced, and keep that; all else is shared."""
    places: Iterator[tuple[Any, _Tree | None]]
    if isinstance(value, dict):
        places = ((name, branch) for name, branch in tree.items() if name in value)
    elif isinstance(value, list):
        numbers = (
            (name, branch) for name, branch in tree.items() if jsonvalue.PLACE.fullmatch(name)
        )
        places = ((int(name), branch) for name, branch in numbers if int(name) < len(value))
    else:
        return value
    replaced: Any = value.copy()
    for place, branch in places:
        if branch is None:
            secrets.append(value[place])
            replaced[place] = shown(value[place], keyed)
        else:
            replaced[place] = _replaced(value[place], branch, keyed, secrets)
    return replaced


def _leaf_paths(
    value: JSONValue, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaf_paths(item, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaf_paths(item, (*path, place))
    else:
        yield path


def kind_of(error: str) -> str:
    """Return the first words of a condition's error: what went wrong, without what with."""
    words = re.match(r"[A-Za-z ,-]*", error)
    return (words.group().strip() if words else "") or "could not be evaluated"


def _quoted(text: str, secrets: Iterable[JSONValue]) -> list[tuple[int, int, JSONValue]] | None:
    """Return where a text quotes secret values, in order; ``None``: it would take too long."""
    places: list[tuple[int, int, JSONValue]] = []
    work = 0
    for leaf in (leaf for secret in secrets for leaf in _leaves(secret)):
        for form in _spellings(leaf, len(text)):
            work += len(text) + _EACH
            if work > _MOST_WORK:
                return None
            places += [(start, start + len(form), leaf) for start in _places(form, text)]
    found: list[tuple[int, int, JSONValue]] = []
    for start, end, leaf in sorted(places, key=lambda place: (place[0], -place[1])):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end), found[-1][2])
        else:
            found.append((start, end, leaf))
    return found


def _places(form: str, text: str) -> Iterator[int]:
    """Yield where a text has a spelling: a short one only where it stands alone."""
    start = text.find(form)
    while start >= 0:
        end = start + len(form)
        around = text[max(start - 1, 0) : start] + text[end : end + 1]
        if len(form) >= _SHORT or not any(letter.isalnum() or letter == "_" for letter in around):
            yield start
        start = text.find(form, end)


def _spellings(leaf: str | int | float, most: int) -> set[str]:
    """Return the ways, at most so long, in which a text may spell a value."""
    if isinstance(leaf, str):
        if len(leaf) > most:
            return set()
        forms = {leaf, repr(leaf)[1:-1], json.dumps(leaf)[1:-1]}
        forms.add(json.dumps(leaf, ensure_ascii=False)[1:-1])
    else:
        forms = {repr(leaf), jsonvalue.canonical(leaf).decode()}
    return {
        form
        for form in forms
        if len(form) <= most and (len(form) >= _SHORT or any(map(str.isalnum, form)))
    }


def _leaves(value: JSONValue) -> Iterator[str | int | float]:
    """Yield the strings and numbers of a value, and its keys; the rest tells nothing."""
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)


def blind(keyed: Keyed, uid: str) -> str:
    """Return what goes into the digest of an action's hold, so that nobody can try a guess."""
    return keyed(b"blind\n" + uid.encode()).hex()
