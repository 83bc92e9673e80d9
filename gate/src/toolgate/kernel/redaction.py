"""What everybody may read of a call whose tool's contract has ``redact`` pointers. Pure.

1. The value that a pointer (RFC 6901, into the arguments) names is shown as ``redacted:`` and the
   start of an HMAC of its canonical JSON, under a key derived from the journal's: the same value
   looks the same throughout one journal, and nobody without the key can try a guess.
2. A call that was not found valid is shown with every one of its values replaced: a misspelt field
   is no way round.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from toolgate import jsonvalue
from toolgate.approvals.hold import MARK
from toolgate.ir import OutcomeError
from toolgate.jsonvalue import JSONValue
from toolgate.policy.verdict import RuleError, Verdict

Keyed: TypeAlias = Callable[[bytes], bytes]
"""HMAC-SHA256 of a message under the key that is derived for redaction."""

_DIGITS: Final = 32
"""Hex digits of the HMAC that are shown: 128 bits."""
_SHORT: Final = 4
"""Shorter values are replaced in a text only where they stand alone, as a word or a number."""
_MOST_VALUES: Final = 2000
"""A text about a call with more secret values than these is left out as a whole."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """One call's arguments as everybody may see them.

    ``pointers`` name the values that ``args`` shows as digests; ``secrets`` are these values.
    """

    pointers: tuple[str, ...]
    args: dict[str, JSONValue]
    secrets: tuple[JSONValue, ...]
    keyed: Keyed

    @property
    def args_json(self) -> bytes:
        """The canonical JSON of ``args``."""
        return jsonvalue.canonical(self.args)

    def leaf_by_leaf(self, args: dict[str, JSONValue]) -> dict[str, JSONValue]:
        """Return arguments with every string and number in what is secret replaced by itself."""
        for pointer in self.pointers:
            found = value_at(args, jsonvalue.pointer_parts(pointer))
            if found is not None:
                leaves = [jsonvalue.pointer((*found[0], *path)) for path in _leaf_paths(found[1])]
                args = redact(args, leaves, self.keyed).args
        return args

    def blind(self, uid: str) -> str:
        """Return what goes into the digest of the action's hold, so that no guess can be tried."""
        return self.keyed(b"blind\n" + uid.encode()).hex()

    def text(self, text: str) -> str:
        """Return a text about the call without the secret values it quotes."""
        spelled = _spellings(self.secrets)
        if spelled is None:
            return "(left out: it may quote redacted arguments, and there are too many of them)"
        if not spelled:
            return text
        whole = "|".join(_pattern(form) for form in sorted(spelled, key=len, reverse=True))
        return re.sub(whole, lambda found: shown(spelled[found.group()], self.keyed), text)

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
        """Return policy's verdict on the call without what the errors of its conditions quote."""
        observed = None if verdict.observed is None else self.verdict(verdict.observed)
        if not verdict.errors and observed is verdict.observed:
            return verdict
        errors = tuple(RuleError(item.rule, self.text(item.error)) for item in verdict.errors)
        return replace(verdict, reason=self.text(verdict.reason), errors=errors, observed=observed)


class Redactor:
    """What the contracts of one deployment keep secret."""

    def __init__(self, pointers: Mapping[str, tuple[str, ...]], keyed: Keyed) -> None:
        """``pointers`` are the contracts' by tool; a tool that is not there hides nothing."""
        self._pointers = {tool: names for tool, names in pointers.items() if names}
        self.keyed = keyed

    def unchecked(self, tool: str, args: dict[str, JSONValue]) -> Redaction | None:
        """Return the redaction of a call whose arguments nobody has checked; ``None``: it has none.

        All of its values are replaced.
        """
        if tool not in self._pointers:
            return None
        return redact(args, everything(args), self.keyed)

    def checked(self, tool: str, args: dict[str, JSONValue]) -> Redaction | None:
        """Return the redaction of a call whose arguments are valid; ``None``: it has none."""
        pointers = self._pointers.get(tool)
        return None if pointers is None else redact(args, pointers, self.keyed)

    def compensation(self, compensation: Any) -> Any:
        """Return the JSON of what compensates an action as everybody may see it."""
        if compensation is None or compensation.get("tool") not in self._pointers:
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

    def document(self, plan: bytes) -> bytes:
        """Return a proposal's canonical JSON as everybody may see it."""
        shown = self.proposal(jsonvalue.parse(plan)) if self._pointers else None
        return plan if shown is None else jsonvalue.canonical(shown)

    def _hides(self, action: dict[str, Any]) -> bool:
        compensation = action.get("compensation") or {}
        return action.get("tool") in self._pointers or compensation.get("tool") in self._pointers

    def _planned(self, action: dict[str, Any]) -> dict[str, Any]:
        if not self._hides(action):
            return action
        compensation = self.compensation(action.get("compensation"))
        if action.get("tool") in self._pointers:
            action = self._covered(action)
        return {**action, "compensation": compensation}

    def _covered(self, call: dict[str, Any]) -> dict[str, Any]:
        args = call["parameters"]
        return {**call, "parameters": redact(args, everything(args), self.keyed).args}


def redact(args: dict[str, JSONValue], pointers: Iterable[str], keyed: Keyed) -> Redaction:
    """Return arguments with the values that ``pointers`` name replaced; others are passed over."""
    names = tuple(sorted(set(pointers)))
    secrets: list[JSONValue] = []
    replaced: Any = args
    for pointer in names:
        replaced = _replaced(replaced, jsonvalue.pointer_parts(pointer), keyed, secrets)
    return Redaction(names, replaced, tuple(secrets), keyed)


def everything(args: Mapping[str, JSONValue]) -> tuple[str, ...]:
    """Return the pointers that name every member of the arguments."""
    return tuple(jsonvalue.pointer((name,)) for name in args)


def shown(value: JSONValue, keyed: Keyed) -> str:
    """Return what is shown in place of a value."""
    return MARK + keyed(b"value\n" + jsonvalue.canonical(value)).hex()[:_DIGITS]


def _replaced(value: Any, path: list[str], keyed: Keyed, secrets: list[JSONValue]) -> Any:
    """Return ``value`` with what ``path`` leads to replaced, and keep that; all else is shared."""
    if not path:
        secrets.append(value)
        return shown(value, keyed)
    name, *rest = path
    if isinstance(value, dict) and name in value:
        return {**value, name: _replaced(value[name], rest, keyed, secrets)}
    if isinstance(value, list) and re.fullmatch("0|[1-9][0-9]*", name) and int(name) < len(value):
        place = int(name)
        return [
            *value[:place],
            _replaced(value[place], rest, keyed, secrets),
            *value[place + 1 :],
        ]
    return value


def value_at(args: Any, parts: list[str]) -> tuple[list[str | int], JSONValue] | None:
    """Return the path and the value that a pointer leads to, ``None`` when it leads nowhere."""
    path: list[str | int] = []
    for part in parts:
        if isinstance(args, dict) and part in args:
            path.append(part)
            args = args[part]
        elif (
            isinstance(args, list) and re.fullmatch("0|[1-9][0-9]*", part) and int(part) < len(args)
        ):
            path.append(int(part))
            args = args[int(part)]
        else:
            return None
    return path, args


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


def _spellings(secrets: Iterable[JSONValue]) -> dict[str, JSONValue] | None:
    """Return every way the secret values may be spelled in a text; ``None``: too many values."""
    found: dict[str, JSONValue] = {}
    for number, leaf in enumerate(leaf for secret in secrets for leaf in _leaves(secret)):
        if number >= _MOST_VALUES:
            return None
        if isinstance(leaf, str):
            forms = {leaf, repr(leaf)[1:-1]}
            forms |= {json.dumps(leaf)[1:-1], json.dumps(leaf, ensure_ascii=False)[1:-1]}
        else:
            forms = {repr(leaf), jsonvalue.canonical(leaf).decode()}
        for form in forms:
            if len(form) >= _SHORT or any(letter.isalnum() for letter in form):
                found.setdefault(form, leaf)
    found.pop("", None)
    return found


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


def _pattern(form: str) -> str:
    exact = re.escape(form)
    return exact if len(form) >= _SHORT else rf"(?<!\w){exact}(?!\w)"
