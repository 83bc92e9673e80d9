"""Throws random conditions and arguments at CEL's binding, in a process that may die of it.

    python tests/gate/policy/cel_fuzz.py --seconds 600 --seed 1

Conditions come from a grammar over everything a rule can name: the variables, the macros, the
standard functions and the strings extension; a part of them is then damaged. Arguments are JSON as
hostile as a client can make it, and beyond. Of every condition and call it is checked that

* loading gives a condition or :class:`ConditionError`, evaluating gives true, false or
  :class:`EvaluationError`, within :data:`PATIENCE` and the same each time;
* an error or a value of another type is never read as true: the binding itself says BOOL of
  whatever is taken for one;
* ``!``, ``&&``, ``||`` and ``?:`` mean what CEL says of their parts, errors included;
* a rule fails in the safe direction: deny and hold match where the condition is true or erred,
  allow only where it is true, and with ``unless`` where it is false;
* many rules asked in one expression give the verdict that each asked by itself gives.

The case at hand is in the file ``--case`` names before it is tried, so that whoever started the
process can tell of what it died. The counts of a finished run are printed as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from toolgate.config import ToolEntry, parse_config
from toolgate.policy import CallFacts, Policy, RuleError, compile_policy, contract_for
from toolgate.policy.conditions import Condition, ConditionCompiler, ConditionError, EvaluationError

PATIENCE = 5.0
"""Seconds one evaluation may take on a busy machine; all but the largest take microseconds."""

CASES_PER_ROUND = 250
CALLS = 12  # Each condition and document is tried on so many.
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONSTANTS = {"n": 3, "s": "rm", "l": ["rm", 1, None], "m": {"": 0, "k": {"x": []}}, "t": True}

# --- conditions
#
# Hypothesis draws the source of randomness and everything else comes from that: drawing each part
# of a condition would make it fifty times slower, and a fuzz run is worth what it tries.

T = TypeVar("T")
Maker: TypeAlias = Callable[[Random], T]


def _choice(*options: T) -> Maker[T]:
    return lambda random: random.choice(options)


def _one_of(*makers: Maker[T]) -> Maker[T]:
    return lambda random: random.choice(makers)(random)


def _filled(templates: Maker[str] | str, *parts: Maker[str]) -> Maker[str]:
    def made(random: Random) -> str:
        template = templates if isinstance(templates, str) else templates(random)
        return template.format(*[part(random) for part in parts])

    return made


NUMBERS = _choice(
    "0", "1", "-1", "3", "7", "0.5", "-0.0", "1e308", "5e-324", "0x7f", "3u",
    "18446744073709551615u", "9223372036854775807", "-9223372036854775808", "9007199254740993",
    "9007199254740992.0",
)  # fmt: skip
STRINGS = _choice(
    "''", "'rm'", '"a b"', "'é😀'", r"'\n'", r"'\u00e9'", r"r'rm\s+-[a-z]*r'", "'''x'''", "'('",
    "'%s'", "'%d %f %x'", "'2026-01-01T00:00:00Z'", "'90s'", "'9223372036854775808'", "'true'",
    "'[a-z]+$'", "'(a*)*b'", "'a{1000}'", r"'\\pL'", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
)  # fmt: skip
BYTES = _choice("b''", "b'rm'", r"b'\xff\x00'")
NAMES = _choice("a", "b", "c", "to", "x", "k", "missing")
WHOLE = _choice(
    "args", "state", "tool.name", "tool.level", "tool.labels", "tool.reversibility",
    "tool.blast_radius", "agent.id", "agent.framework", "session.id", "session.age", "action.id",
    "action.type", "action.proposal_id", "now", "vars.n", "vars.s", "vars.l", "vars.m", "vars.t",
)  # fmt: skip
VARIABLE = _one_of(
    _filled("args.{}", NAMES),
    _filled("args.{}", NAMES),
    _filled("state.{}", NAMES),
    _filled("args.{}.{}", NAMES, NAMES),
    _filled("args[{}]", STRINGS),
    WHOLE,
    _choice("x", "y"),
)
UNARY = _choice(
    "size({})", "{}.size()", "-({})", "int({})", "uint({})", "double({})", "string({})",
    "bytes({})", "bool({})", "dyn({})", "type({})", "duration({})", "timestamp({})",
    "{}.lowerAscii()", "{}.upperAscii()", "{}.trim()", "{}.reverse()", "{}.join()",
    "strings.quote({})", "{}.getSeconds()", "{}.getFullYear()", "{}.getMilliseconds()",
    "{}.getDayOfWeek('Europe/Vienna')", "[{}]", "{{'k': {}}}", "{{{}: 1}}", "{}.x", "{}[0]",
    "{}['k']", "{}.substring(1)", "({}).y.z",
)  # fmt: skip
BINARY = _choice(
    "({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} % {})", "({})[{}]", "{}.split({})",
    "{}.indexOf({})", "{}.lastIndexOf({})", "{}.charAt({})", "{}.join({})", "{}.format([{}])",
    "{}.substring({})", "[{}, {}]", "{{{}: {}}}", "{}.map(x, {})", "{}.filter(y, {})",
    "{}.map(x, x != null, {})", "({}).map(x, [x, x]).map(y, {})",
)  # fmt: skip
TERNARY = _choice(
    "({} == 1 ? {} : {})", "{}.replace({}, {})", "{}.substring({}, {})", "{}.indexOf({}, {})",
    "{}.getHours({})[{}]", "{}.split({}, {})",
)  # fmt: skip


ATOM = _one_of(
    VARIABLE, VARIABLE, VARIABLE, NUMBERS, STRINGS, BYTES, _choice("null", "true", "[]", "{}")
)


def _value(depth: int) -> Maker[str]:
    """A value of any type; most are atoms, and few are deep."""
    if depth == 0:
        return ATOM
    inner = _value(depth - 1)
    made = (_filled(UNARY, inner), _filled(BINARY, inner, inner), _filled(TERNARY, *[inner] * 3))
    return _one_of(ATOM, ATOM, ATOM, *made)


VALUE = _value(3)
COMPARISONS = _choice(
    "{} == {}", "{} != {}", "{} < {}", "{} <= {}", "{} > {}", "{} >= {}", "{} in {}",
    "{}.contains({})", "{}.startsWith({})", "{}.endsWith({})", "{}.matches({})", "matches({}, {})",
    "{}.all(x, {})", "{}.exists(y, {})", "{}.exists_one(x, {})", "{}.all(x, x.matches({}))",
    "{}.exists(x, x == {})", "{}.all(x, x > {})", "{}.all(x, args.to.exists(y, x == y || {}))",
    "{}.filter(x, x in {}) != []", "type({}) == type({})",
    "{}.all(x, state.all(y, args.all(a, {} == 1)))",
)  # fmt: skip
SENSIBLE = _choice(
    "args.a.startsWith('rm')", "args.b.contains(args.a)", "args.a.matches('[a-z]+$')", "args.c > 3",
    "args.c + args.x < 10", "args.x == 1", "args.to.all(x, x.endsWith('m'))", "args.to.size() > 1",
    "args.to.exists_one(x, x == args.a)", "args.k.x == 1", "'x' in args.k", "args.a in args.to",
    "args.a.split(' ')[0] == 'rm'", "args.a.matches(args.b)", "args.k.all(k, args.k[k] != null)",
    "session.age > duration(args.b)", "now > timestamp('2026-01-01T00:00:00Z')",
    "state.a == args.a", "args.to.filter(x, x in state.to).size() == 0",
    "args.a.replace('r', '%s').format([1]) != args.b", "tool.level >= 3 || args.missing",
    "vars.l.exists(x, x == args.a)", "args.a == vars.s // yes",
)  # fmt: skip
LEAF = _one_of(
    SENSIBLE,
    SENSIBLE,
    SENSIBLE,
    _filled(COMPARISONS, VALUE, VALUE),
    _filled(COMPARISONS, VALUE, VALUE),
    _filled(COMPARISONS, VARIABLE, ATOM),
    VARIABLE,
    _filled("has(args.{})", NAMES),
    _filled("has(state.{}.{})", NAMES, NAMES),
    _filled("has({}.k)", VALUE),
    _choice("true", "false", "1", "null", "'true'", "1 / 0 == 1", "args.missing"),
    _filled("{}\n// a comment )", VARIABLE),
)


@dataclass(frozen=True)
class Node:
    """A condition: a leaf, or what an operator makes of parts whose meaning is known."""

    kind: str
    parts: tuple[Node, ...] = ()
    text: str = ""

    @property
    def source(self) -> str:
        parts = [f"({part.source}\n)" for part in self.parts]
        match self.kind:
            case "leaf":
                return self.text
            case "not":
                return f"!{parts[0]}"
            case "if":
                return f"{parts[0]} ? {parts[1]} : {parts[2]}"
        return f" {self.kind} ".join(parts)

    @property
    def leaves(self) -> list[str]:
        inner = [leaf for part in self.parts for leaf in part.leaves]
        return [self.text] if self.kind == "leaf" else inner

    def meaning(self, leaf: Callable[[str], bool | None]) -> bool | None:
        """What CEL says of it: true, false, or None for an error."""
        if self.kind == "leaf":
            return leaf(self.text)
        if self.kind == "if":
            chosen = self.parts[0].meaning(leaf)
            return None if chosen is None else self.parts[1 if chosen else 2].meaning(leaf)
        values = [part.meaning(leaf) for part in self.parts]
        if self.kind == "not":
            return None if values[0] is None else not values[0]
        absorbing = self.kind == "||"
        if absorbing in values:
            return absorbing
        return None if None in values else not absorbing


def _tree(depth: int) -> Maker[Node]:
    def made(random: Random) -> Node:
        kind, parts = random.choice((("leaf", 0), ("not", 1), ("&&", 2), ("||", 3), ("if", 3)))
        if depth == 0 or not parts:
            return Node("leaf", text=LEAF(random))
        return Node(kind, tuple(_tree(depth - 1)(random) for _ in range(parts)))

    return made


TREE = _tree(2)
PIECES = _choice(
    "", "(", ")", "'", '"', "\\", "//", "\0", "\ud800", "?", ".", "has(", "\n", "''''", "é", "😀",
    "(" * 300, "[" * 5000, "!" * 2000, "-" * 2000, "a." * 200, "1+" * 3000, "{'a':" * 40, "0x",
    "1e",
)  # fmt: skip


def damaged(random: Random) -> str:
    """A condition with a piece lost, doubled or replaced."""
    text = TREE(random).source
    start = random.randint(0, len(text))
    end = min(len(text), start + random.randint(0, 8))
    piece = text[start:end] * 3 if random.random() < 0.2 else PIECES(random)
    return text[:start] + piece + text[end:]


# --- arguments

NASTY = _choice(
    None, True, False, 0, -0.0, 1, -1, 1.5, 3, 2**31, 2**53, 2**53 + 1, float(2**53), 2**63 - 1,
    2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**40, -(10**400), 1e308, -1e308, 5e-324,
    math.nan, math.inf, -math.inf, "", "rm", "rm -rf /", "a\0b", "\0", "\ud800", "\udfff x",
    "\U0010ffff", "é😀", "\ufeff", "true", "90s", "(", "%s", "%", "[a-z]+$", "(a*)*b", "\\",
    "2026-01-01T00:00:00Z", "9" * 400, "\x7f\x80", [], {}, [[]], {"": {}}, {"k": None},
    {"k": 1, "x": [1]}, [None, 1, "rm"], ["rm", "rm"], {"": "", "\0": 1}, {"\ud800": 1},
)  # fmt: skip
TAME = _choice(None, True, False, 0, 1, 3, 1.5, "rm", "", "a b", "90s", "2026-01-01T00:00:00Z")
WORD = _choice("rm", "rm -rf /", "", "a b", "90s", "form", "é😀", "[a-z]+$")
NUMBER = _choice(0, 1, 3, -1, 1.5, 2**53, 2**63 - 1)
KEY = _choice("", "a", "b", "x", "k", "y", "é", "key with space", "a.b", "0")


def _deep(depth: int, kind: str) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


LARGE: tuple[Callable[[], Any], ...] = (
    lambda: "a" * 100_000,
    lambda: "a" * 1_000_000,
    lambda: "é😀" * 100_000,
    lambda: list(range(9_999)),
    lambda: list(range(10_001)),
    lambda: [None] * 50_000,
    lambda: ["rm"] * 3_000,
    lambda: {str(n): n for n in range(20_000)},
    *[
        partial(_deep, depth, kind)
        for depth in (50, 199, 200, 201, 250, 260, 1000, 20_000)
        for kind in "lm"
    ],
)


def _json(leaf: Maker[Any], depth: int) -> Maker[Any]:
    def made(random: Random) -> Any:
        if depth == 0 or random.random() < 0.5:
            return leaf(random)
        size, inner = random.randint(0, 4), _json(leaf, depth - 1)
        if random.random() < 0.5:
            return [inner(random) for _ in range(size)]
        return {KEY(random): inner(random) for _ in range(size)}

    return made


ANY = _one_of(
    _json(NASTY, 3),
    lambda random: random.randint(-(2**70), 2**70),
    lambda random: random.expovariate(0.1),
)


def _object(random: Random) -> dict[str, Any]:
    """An object that conditions read: as they expect it, of any JSON, or hostile."""
    kind = random.random()
    if kind < 0.5:
        sane = {
            "a": WORD(random),
            "b": WORD(random),
            "c": NUMBER(random),
            "to": [WORD(random) for _ in range(random.randint(0, 3))],
            "x": NUMBER(random),
            "k": {"x": NUMBER(random), "k": WORD(random)},
        }
        if kind < 0.3:
            return sane
        # One thing in it is not.
        return {**sane, random.choice(list(sane)): ANY(random)}
    names = ("a", "b", "c", "to", "x", "k", "")
    value = _json(TAME, 3) if kind < 0.75 else ANY
    return {name: value(random) for name in names if random.random() < 0.7}


class Situation:
    """One call and the state it finds, with a short text for whoever reads of a failure."""

    def __init__(self, args: dict[str, Any], state: dict[str, Any], said: dict[str, Any]) -> None:
        self.facts = CallFacts(args=args, state=lambda: state, **said)
        self._text = (args, state, said)

    def __repr__(self) -> str:
        return " / ".join(map(_short, self._text))


def a_call(random: Random) -> Situation:
    args = _object(random)
    if random.random() < 0.05:
        args[random.choice(("a", "b", "to", "k"))] = random.choice(LARGE)()
    labels: tuple[str, ...] = random.choice(((), ("egress",)))
    rarely = random.random() < 0.03
    said = {
        "contract": contract_for("shell", ToolEntry(level=3, labels=labels)),
        "action_id": "\0" if rarely else "0123456789ab",
        "action_type": "tool_call",
        "proposal_id": random.choice((None, "p", "\ud800" if rarely else "")),
        "agent_id": "assistant",
        "framework": None,
        "session_id": "monday",
        "session_age": random.choice((0.0, 90.0, 1e9)),
        "now": NOW,
    }
    return Situation(args, _object(random), said)


# --- what is checked


def _attempt(evaluation: Callable[[], T]) -> tuple[T | None, str | None]:
    """What an evaluation gives, or its error."""
    try:
        return evaluation(), None
    except EvaluationError as error:
        text = str(error)
    assert text.isprintable()
    assert text
    return None, text


class Fuzzer:
    """One run: what it has seen, and the checks of one case."""

    def __init__(self, case: Path | None) -> None:
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0
        self.compiler = ConditionCompiler(CONSTANTS)
        self._case = None if case is None else os.open(case, os.O_WRONLY | os.O_CREAT, 0o600)

    def note(self, *what: object) -> None:
        """Leave word of what is about to be tried."""
        if self._case is not None:
            text = "\n".join(part if isinstance(part, str) else _short(part) for part in what)
            data = text.encode(errors="backslashreplace")
            os.pwrite(self._case, data, 0)
            os.ftruncate(self._case, len(data))

    def condition(self, source: str) -> Condition | None:
        """Load a condition."""
        self.note("loading", source)
        # A policy has an end, a fuzz run has not.
        if len(self.compiler._compiled) > 5000:
            self.compiler = ConditionCompiler(CONSTANTS)
        self.seen["conditions"] += 1
        try:
            return self.compiler.compile(source)
        except ConditionError as error:
            problems = error.problems
        self.seen["refused"] += 1
        assert problems
        return None

    def answer(self, condition: Condition, facts: Situation) -> bool | None:
        """Evaluate a condition: true, false, or None for an error."""
        self.note("evaluating", condition.source, facts)
        self.seen["evaluations"] += 1
        began = time.monotonic()
        said = self._asked(condition, facts)
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        assert took < PATIENCE, f"{took:.1f} s: {condition.source}"
        return said

    def _asked(self, condition: Condition, facts: Situation) -> bool | None:
        scope = self.compiler.scope([condition])
        call, error = _attempt(lambda: scope.bind(facts.facts))
        if error is not None:
            self.seen["refused calls"] += 1
            return None
        value, error = _attempt(lambda: condition.test(call))
        assert error is not None or value is True or value is False
        assert self._said(condition, call) is value
        self.seen["errors" if error is not None else str(value).lower()] += 1
        return value

    @staticmethod
    def _said(condition: Condition, call: Any) -> bool | None:
        """What the binding itself says, a second time."""
        try:
            result = condition._expression.eval(call)
        except Exception:  # noqa: BLE001
            return None
        return bool(result.value()) if result.type().name() == "BOOL" else None

    def check_tree(self, tree: Node, facts: Sequence[Situation]) -> None:
        """Check a condition against the meaning of its parts, and its negation."""
        whole = self.condition(tree.source)
        if whole is None:
            return
        leaves = {text: self.condition(f"({text}\n) ? true : false") for text in tree.leaves}
        negated = self.condition(f"!({tree.source}\n)")
        for call in facts:
            said = self.answer(whole, call)
            if negated is not None:
                opposite = self.answer(negated, call)
                assert opposite is (None if said is None else not said)
            scope = self.compiler.scope([whole])
            if _attempt(partial(scope.bind, call.facts))[1] is not None:
                assert said is None
                continue
            known = {
                text: None if leaf is None else self.answer(leaf, call)
                for text, leaf in leaves.items()
            }
            if tree.kind != "leaf" and all(leaf is not None for leaf in leaves.values()):
                meant = tree.meaning(known.__getitem__)
                # The iteration budget is an evaluation's: the whole may exceed what no part does.
                if said is not meant:
                    assert said is None, (said, meant)
                    assert self._over_budget(whole, call), (said, meant)
                self.seen["meanings"] += 1

    def _over_budget(self, condition: Condition, facts: Situation) -> bool:
        call = self.compiler.scope([condition]).bind(facts.facts)
        return "10000 items" in (_attempt(lambda: condition.test(call))[1] or "")

    def check_rules(self, rules: Sequence[dict[str, Any]], facts: Sequence[Situation]) -> None:
        """Check that rules fail safely, and that asking them together is asking each of them."""
        usable = [self._loadable(rule, f"r{place}") for place, rule in enumerate(rules)]
        self.note("loading rules", usable)
        section = {"rules": usable, "vars": CONSTANTS}
        policy = compile_policy(parse_config({"project": "x", "policy": section}, Path("/unused")))
        for call in facts:
            self.note("deciding", usable, call)
            self.seen["verdicts"] += 1
            found = policy.decide(call.facts)
            expected = decided_singly(policy, call)
            assert (found.effect, found.rules, found.errors) == expected
            self.seen[f"verdicts: {found.effect}"] += 1
            self.seen["verdicts with errors"] += bool(found.errors)

    def _loadable(self, rule: dict[str, Any], name: str) -> dict[str, Any]:
        bad = [k for k in ("when", "unless") if k in rule and self.condition(rule[k]) is None]
        return {**{k: v for k, v in rule.items() if k not in bad}, "id": name}


def decided_singly(
    policy: Policy, facts: Situation
) -> tuple[str, tuple[str, ...], tuple[RuleError, ...]]:
    """Decide as the design says it, condition by condition: effect, rules and errors."""
    conditions = [condition for rule in policy.rules for condition in rule.conditions]
    errors: list[RuleError] = []

    def holds(condition: Condition) -> bool:
        return condition.test(policy._compiler.scope(conditions).bind(facts.facts))

    for effect in ("deny", "hold", "allow"):
        matching = []
        for rule in policy.rules:
            if rule.effect != effect:
                continue
            try:
                matches = (rule.when is None or holds(rule.when)) and not (
                    rule.unless is not None and holds(rule.unless)
                )
            except EvaluationError as error:
                errors.append(RuleError(rule.id, str(error)))
                matches = effect != "allow"
            if matches:
                matching.append(rule.id)
        if matching:
            return effect, tuple(matching), tuple(errors)
    return "deny", (), tuple(errors)


def _short(value: object) -> str:
    try:
        text = ascii(value)
    except RecursionError:
        return "(too deep to print)"
    return text if len(text) < 4000 else f"{text[:2000]} … {len(text)} characters … {text[-1000:]}"


PLAIN = _choice(
    "args.a == 1", "args.a == 'rm'", "has(args.a)", "args.size() > 2", "tool.level >= 3", "true",
    "false", "'egress' in tool.labels", "args == state", "session.age > duration('1m')",
    "args.all(k, k != 'x')", "vars.t // yes", "type(args.a) == string",
)  # fmt: skip


def a_document(random: Random) -> list[dict[str, Any]]:
    """Rules about every tool; half the documents have conditions that seldom err."""
    kinds = (PLAIN,) if random.random() < 0.5 else (PLAIN, PLAIN, PLAIN, SENSIBLE, LEAF)
    rules = []
    for _ in range(random.choice((1, 2, 4, 12, 80))):
        rule = {"effect": random.choice(("deny", "hold", "allow")), "tools": ["*"]}
        for clause in ("when", "unless"):
            if random.random() < 0.6:
                rule[clause] = random.choice(kinds)(random)
        rules.append(rule)
    return rules


def run(seconds: float, first_seed: int, case: Path | None) -> dict[str, object]:
    """Fuzz for so long; returns the counts. Raises what hypothesis raises when a check fails."""
    fuzzer = Fuzzer(case)
    began = time.monotonic()

    def over() -> bool:
        return time.monotonic() - began > seconds

    randoms = st.randoms(use_true_random=True)
    bounded = settings(
        max_examples=CASES_PER_ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )

    @bounded
    @given(randoms)
    def trees(random: Random) -> None:
        if not over():
            fuzzer.check_tree(TREE(random), [a_call(random) for _ in range(CALLS)])

    @bounded
    @given(randoms)
    def damage(random: Random) -> None:
        if not over() and (condition := fuzzer.condition(damaged(random))) is not None:
            fuzzer.answer(condition, a_call(random))

    @bounded
    @given(randoms)
    def rules(random: Random) -> None:
        if not over():
            fuzzer.check_rules(a_document(random), [a_call(random) for _ in range(CALLS)])

    rounds = 0
    while not over():
        for kind in (trees, damage, rules):
            seed(first_seed * 1_000_003 + rounds)(kind)()
        rounds += 1
    return {
        "seconds": round(time.monotonic() - began, 1),
        "seed": first_seed,
        "rounds": rounds,
        **fuzzer.seen,
        "slowest evaluation, ms": math.ceil(fuzzer.slowest * 1000),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fuzz conditions and their binding.")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=Path, help="file to keep the case at hand in")
    options = parser.parse_args()
    print(json.dumps(run(options.seconds, options.seed, options.case)))
