"""The one module that touches CEL: compiles conditions at load, evaluates them without surprises.

What it makes sure of, because the binding (cel-expr-python 0.1) does not:

* A result is used only when its type is BOOL (INT, where rules are asked together): error values
  read as non-empty strings, and reading a null result damages the interpreter's reference count of
  ``None``.
* The binding cuts strings at a NUL character, dies on very deep values and reads integers beyond 64
  bits as errors. Data it cannot represent exactly is an error before evaluation, so a NUL hides
  nothing from a rule.
* Regexes that no call plays a part in (literals, constants) are compiled at load. ``has()`` of a
  variable, which the binding misreads as the variable's value, is refused.

Every variable is declared under its full name with its type (``tool.level`` is an int; there is no
value ``tool``), so a misspelt field or constant is an error at load, with line and column.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cel_expr_python import cel  # type: ignore[import-untyped]
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]
from pydantic_core import to_json

from toolgate.jsonvalue import JSONValue
from toolgate.policy import _syntax
from toolgate.policy._messages import bare, explained, readable
from toolgate.policy._syntax import Comparison, Path, Place
from toolgate.policy.facts import CallFacts
from toolgate.sourcefile import unusable_strings

_T: Any = cel.Type
_BOOL, _DYN, _ERROR, _INT, _STRING = _T.BOOL, _T.DYN, _T.ERROR, _T.INT, _T.STRING

MAX_COMBINED = 32
"""So many rules go into one expression: less than the 63 bits of a CEL integer."""

_MAX_COMBINATIONS = 1024


class ConditionError(Exception):
    """A condition or constant that cannot be loaded; ``problems`` say what and where."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class EvaluationError(Exception):
    """A condition gave neither true nor false for this call; ``str()`` says why."""


def _now(facts: CallFacts) -> datetime:
    if facts.now.tzinfo is None:
        raise EvaluationError("the time of the call has no time zone")
    return facts.now


_VARIABLES: Mapping[str, tuple[Any, Callable[[CallFacts], object]]] = {
    "args": (_T.Map(_STRING, _DYN), lambda facts: facts.args),
    "tool.name": (_STRING, lambda facts: facts.contract.name),
    "tool.level": (_T.INT, lambda facts: facts.contract.level),
    "tool.labels": (_T.List(_STRING), lambda facts: list(facts.contract.labels)),
    "tool.reversibility": (_STRING, lambda facts: facts.contract.reversibility),
    "tool.blast_radius": (_STRING, lambda facts: facts.contract.blast_radius),
    "agent.id": (_STRING, lambda facts: facts.agent_id),
    "agent.framework": (_STRING, lambda facts: facts.framework or ""),
    "session.id": (_STRING, lambda facts: facts.session_id),
    "session.age": (_T.DURATION, lambda facts: timedelta(seconds=facts.session_age)),
    "session.labels": (_T.List(_STRING), lambda facts: list(facts.labels())),
    "session.calls": (_T.Map(_STRING, _INT), lambda facts: dict(facts.calls())),
    "session.total_calls": (_INT, lambda facts: facts.total_calls()),
    "action.id": (_STRING, lambda facts: facts.action_id),
    "action.type": (_STRING, lambda facts: facts.action_type),
    "action.proposal_id": (_STRING, lambda facts: facts.proposal_id or ""),
    "state": (_T.Map(_STRING, _DYN), lambda facts: dict(facts.state())),
    "history": (_T.List(_T.Map(_STRING, _DYN)), lambda facts: list(facts.history())),
    "now": (_T.TIMESTAMP, _now),
}
"""What a condition can name: its CEL type, and how it is read from the facts of a call."""

KNOWN_OF_TOOL: Final = frozenset(
    {"action.type", *(name for name in _VARIABLES if name.startswith("tool."))}
)
"""What is the same in every call of a tool."""

WITHOUT_ARGS: Final = frozenset(_VARIABLES) - {"args"}
"""What is known of a call whose arguments are not."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
_HAS = re.compile(r"\bhas\s*\([\s(]*(\w+)[\s)]*(?:\.\s*(\w+)[\s)]*)?\)")


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled CEL expression that is to be true or false of a call.

    ``names`` are the variables it reads, ``paths`` what it reads of them, in the order it stands,
    ``items`` what it reads of each item of a list, ``comparisons`` the literals it compares with.
    ``joints`` are where the operators stand that join its parts, if it is a conjunction.
    """

    source: str
    names: frozenset[str]
    paths: tuple[Path, ...]
    items: tuple[Place, ...]
    comparisons: tuple[Comparison, ...]
    joints: tuple[int, ...]
    _expression: Any

    def test(self, call: Any) -> bool:
        """Evaluate against a call bound by :meth:`Scope.bind`.

        Raises :class:`EvaluationError` when the result is anything but exactly true or false.
        """
        try:
            result = self._expression.eval(call)
            kind = result.type()
            # The value is read of these types only: reading a null one corrupts the interpreter.
            if kind == _BOOL:
                value = result.value()
                if value is True or value is False:
                    return value
            said = readable(result.value()) if kind == _ERROR else _not_boolean(kind)
        except Exception as error:  # noqa: BLE001 - whatever it raises is not true and not false
            said = readable(str(error))
        raise EvaluationError(said)


@dataclass(frozen=True, slots=True)
class Clauses:
    """What a rule asks of a call: ``when`` is to be true, ``unless`` false; None: not asked."""

    when: Condition | None
    unless: Condition | None

    @property
    def source(self) -> str:
        """Both as one expression: true where the rule matches, an error where one of them errs."""
        # A condition may end in a comment: what follows it starts on a new line.
        when = "true" if self.when is None else f"({self.when.source}\n)"
        return when if self.unless is None else f"({when} ? !({self.unless.source}\n) : false)"


@dataclass(frozen=True, slots=True)
class Combination:
    """Several rules in one expression: to evaluate costs more than what is evaluated."""

    _expression: Any

    def met(self, call: Any) -> int | None:
        """Return which rules match: bit ``n`` for rule ``n``.

        None: a condition gave neither true nor false, or all together walk too many items. Then
        each rule is to be asked by itself. (A sum hides no error, as ``||`` would.)
        """
        try:
            result = self._expression.eval(call)
            value = result.value() if result.type() == _INT else None
        except Exception:  # noqa: BLE001 - each condition will raise it again, and say so
            return None
        return value if type(value) is int else None


class Scope:
    """Binds calls for a given set of conditions: only what these name is converted."""

    __slots__ = ("_constants", "_environment", "_readers")

    def __init__(
        self, environment: Any, names: Iterable[str], constants: Mapping[str, JSONValue]
    ) -> None:
        names = set(names)
        self._environment = environment
        self._readers = [(n, read) for n, (_, read) in _VARIABLES.items() if n in names]
        self._constants = {n: value for n, value in constants.items() if n in names}

    def read(self, path: Path, facts: CallFacts) -> object:
        """Return what a condition finds under a path; raises :class:`LookupError` for nothing."""
        name = path.variable
        found = self._constants[name] if name in self._constants else _VARIABLES[name][1](facts)
        for step in path.steps:
            match found, step:
                case (dict(), str()) if step in found:
                    found = found[step]
                case (list(), int()) if 0 <= step < len(found):
                    found = found[step]
                case _:
                    raise LookupError(str(path))
        return found

    def bind(self, facts: CallFacts) -> Any:
        """Convert the facts of one call, once for all conditions.

        Raises :class:`EvaluationError` when the binding could not represent them exactly.
        """
        try:
            data = {name: read(facts) for name, read in self._readers}
            text = to_json(data)
            if b"\\u0000" in text or b"NaN" in text or b"Infinity" in text:
                _refuse_inexact(data)
            if self._constants:
                data.update(self._constants)
            return self._environment.Activation(data)
        except (ValueError, TypeError, OverflowError, RuntimeError):
            raise EvaluationError("the call is nested too deeply or is not JSON") from None


class ConditionCompiler:
    """Compiles the conditions of one policy, against its constants (``vars``)."""

    def __init__(self, constants: Mapping[str, JSONValue]) -> None:
        """Raises :class:`ConditionError` for a constant that no condition could name or read."""
        problems = [
            f"{name}: the name of a constant must consist of letters, digits and _"
            for name in constants
            if not _IDENTIFIER.fullmatch(name)
        ]
        problems += [f"{at}: {text}" for at, text in _inexact(dict(constants))]
        if problems:
            raise ConditionError(problems)
        self._constants = {f"vars.{name}": value for name, value in constants.items()}
        types = {name: kind for name, (kind, _) in _VARIABLES.items()}
        types |= {name: _type_of(value) for name, value in self._constants.items()}
        self._known = types.keys()
        self._environment: Any = cel.NewEnv(variables=types, extensions=[ext_strings.ExtStrings()])
        self._compiled: dict[str, Condition] = {}
        self._combined: dict[tuple[Clauses, ...], Combination | None] = {}

    def compile(self, source: str) -> Condition:
        """Compile one expression; raises :class:`ConditionError` with ``line:column: problem``."""
        condition = self._compiled.get(source)
        if condition is None:
            condition = self._compiled[source] = self._compile(source)
        return condition

    def parts(self, condition: Condition) -> list[Condition]:
        """Return the parts of a conjunction, all of which are true where it is.

        Of anything else, or where its parts do not stand one after another, that is none.
        """
        source, ends = condition.source, condition.joints
        starts = (0, *(at + len("&&") for at in ends))
        texts = [source[a:b] for a, b in zip(starts, (*ends, None), strict=True)]
        try:
            return [self.compile(text.strip()) for text in texts] if ends else []
        except ConditionError:
            return []

    def combine(self, rules: Sequence[Clauses]) -> Combination | None:
        """Put at most :data:`MAX_COMBINED` rules into one expression; None: it would not compile.

        What compiles rule by rule may be too deep or too long for that together.
        """
        key = tuple(rules)
        if key not in self._combined:
            if len(self._combined) >= _MAX_COMBINATIONS:
                self._combined.clear()
            terms = [f"({rule.source} ? {1 << bit} : 0)" for bit, rule in enumerate(rules)]
            try:
                combination = Combination(self._environment.compile(_sum(terms)))
            except RuntimeError:
                self._combined[key] = None
            else:
                self._combined[key] = combination
        return self._combined[key]

    def scope(self, conditions: Iterable[Condition], *, known: Set[str] | None = None) -> Scope:
        """Return what binds calls for these conditions.

        With ``known`` no more than these variables is bound. To read anything else is then an
        error, which ``false && …`` and ``true || …`` do not ask about: a condition that is true or
        false nevertheless is so whatever the others are.
        """
        names = {name for condition in conditions for name in condition.names}
        if known is not None:
            names &= known | self._constants.keys()
        return Scope(self._environment, names, self._constants)

    def _compile(self, source: str) -> Condition:
        unusable = [text for _, text in unusable_strings(source)]
        if unusable:
            raise ConditionError(unusable)
        try:
            expression = self._environment.compile(source)
        except RuntimeError as error:
            raise ConditionError(explained(source, str(error), self._known)) from None
        syntax = _syntax.read(expression.serialize(), self._known)
        problems = [*self._bad_regexes(source, syntax), *self._misread_has(source)]
        kind = expression.return_type()
        if kind not in (_BOOL, _DYN):
            problems.append(f"1:1: {_not_boolean(kind)}")
        if problems:
            raise ConditionError(problems)
        return Condition(
            source,
            frozenset(syntax.names & self._known),
            syntax.paths,
            syntax.items,
            syntax.comparisons,
            syntax.joints,
            expression,
        )

    def _bad_regexes(self, source: str, syntax: _syntax.Syntax) -> Iterator[str]:
        for pattern in syntax.patterns:
            regex = self._constant_text(pattern.expression)
            if regex is None:
                continue
            literal = json.dumps(regex, ensure_ascii=False)
            result = self._environment.compile(f"''.matches({literal})").eval(data={})
            if result.type() != _BOOL:
                of = f" (of {', '.join(map(str, pattern.paths))})" if pattern.paths else ""
                said = f"{bare(result.value())}{of}"
                if _LOOK_AROUND.search(regex):
                    said += "; RE2 cannot look ahead or behind: say that in a condition of its own"
                yield f"{_position(source, pattern.offset)}: {said}"

    def _constant_text(self, serialized: bytes) -> str | None:
        """Evaluate an expression over constants alone; None: it is no text, or an error."""
        try:
            result = self._environment.deserialize(serialized).eval(data=self._constants)
            # See Condition.test: a null result is not touched.
            return str(result.value()) if result.type() == _STRING else None
        except Exception:  # noqa: BLE001 - a call that comes to it will meet the same error
            return None

    def _misread_has(self, source: str) -> Iterator[str]:
        for match in _HAS.finditer(source):
            name = ".".join(filter(None, match.groups()))
            if name in self._known:
                place = _position(source, match.start())
                yield f"{place}: {name} is always there: leave out has()"


def _sum(terms: Sequence[str]) -> str:
    """Add up terms as a balanced tree: the depth of an expression is limited."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"


def _position(source: str, offset: int) -> str:
    """Return the ``line:column`` of a character, both counted from 1."""
    return f"{source.count(chr(10), 0, offset) + 1}:{offset - source.rfind(chr(10), 0, offset)}"


def _type_of(value: JSONValue) -> Any:
    match value:
        case bool():
            return _BOOL
        case str():
            return _STRING
        case int() if -(2**63) <= value < 2**63:
            return _T.INT
        case float():
            return _T.DOUBLE
    return _DYN


def _refuse_inexact(data: JSONValue) -> None:
    for place, text in _inexact(data):
        raise EvaluationError(f"{place}: {text}")


def _inexact(data: dict[str, JSONValue]) -> Iterator[tuple[str, str]]:
    """Find what the binding would cut, round or refuse, and where: ``args.to.0``."""
    pending: list[tuple[str, JSONValue]] = list(data.items())
    while pending:
        place, value = pending.pop()
        if isinstance(value, str):
            if next(unusable_strings(value), None):
                yield place, "a string with a NUL character or half of a surrogate pair"
        elif isinstance(value, dict):
            for key, item in value.items():
                # A key may hold what must not be: only its escaped form goes into a message.
                pending += [(place, key), (f"{place}.{json.dumps(key)[1:-1]}"[:200], item)]
        elif isinstance(value, list):
            pending += [(f"{place}.{index}"[:200], item) for index, item in enumerate(value)]
        elif isinstance(value, float):
            if not math.isfinite(value):
                yield place, "a number that is not finite"
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            yield place, "an integer beyond 64 bits"


def _not_boolean(kind: Any) -> str:
    return f"the result is of type {kind.name()}, not true or false"
