"""An explanation as people read it: the verdict and who is asked, then why, then the other rules.

In a terminal it is fitted into the width, each text below its own beginning. In a pipe no line is
wrapped. Values longer than a line are shortened, and rules that decide nothing get a line each,
unless all is asked for.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Final

from rich.text import Text

from toolgate.cli.terminal import console, in_terminal, one_line, pretty, printable
from toolgate.jsonvalue import JSONValue
from toolgate.policy.conditions import Condition
from toolgate.policy.explain import Explanation, Fact, asks, duration, listed, target
from toolgate.policy.replay import RecordedCall
from toolgate.policy.trace import Answer, RuleTrace
from toolgate.policy.verdict import ApprovalRequirement, Verdict

_COLOURS: Final = {"allow": "bold green", "hold": "bold yellow", "deny": "bold red"}
_WORDS: Final = {"allow": "ALLOWED", "hold": "HELD", "deny": "DENIED"}
_LONGEST: Final = 80
"""Characters of a value that are shown unless all are asked for."""
_NARROWEST: Final = 20
"""Columns that a text gets, however narrow the terminal is."""


def print_explanation(
    told: Explanation,
    before: Sequence[str],
    recorded: RecordedCall | None,
    *,
    named: bool,
    verbose: bool,
) -> None:
    """Print an explanation.

    ``before`` is why such a call would not reach policy; ``named`` tells whether the config has a
    contract for the tool. ``verbose`` shortens no value and shows every rule in full.
    """
    if before:
        _say(Text("Such a call would be rejected before policy is asked:", "bold red"))
        for problem in before:
            _say(one_line(problem), 2)
        _say("If it came to policy:")
    _print_verdict(told, told.verdict)
    if told.verdict.observed is not None:
        _print_verdict(told, told.verdict.observed, Text("OBSERVED ONLY, enforced it would be "))
    if recorded is not None:
        _print_recorded(told, recorded)
    _print_call(told, named=named)
    _print_why(told, verbose=verbose)
    _print_others(told, verbose=verbose)


def _print_verdict(told: Explanation, verdict: Verdict, before: Text | None = None) -> None:
    groups = [] if verdict.requirement is None else asks(verdict.requirement)
    end = ":" if len(groups) > 1 else "."
    effect = (_WORDS[verdict.effect], _COLOURS[verdict.effect])
    _say(Text.assemble(before or "", effect, f": {one_line(told.summary(verdict))}{end}"), hang=2)
    if len(groups) > 1:
        width = max(len(one_line(group)) for group in groups)
        for group in groups:
            why = f"  for {listed(group.rules)}" if group.rules else "  for the level"
            _say(f"{one_line(group):{width}}{one_line(why)}", 2, hang=width + 2)
        names = [name for group in groups for name in group.approvers]
        if len(set(names)) < len(names):
            _say("One approval counts in every group that names its approver.", 2)
    if verdict.requirement is not None:
        _print_expiries(told, verdict.requirement)
        if verdict.requirement.editable:
            _say("Who approves may change the arguments.", 2)


def _print_expiries(told: Explanation, requirement: ApprovalRequirement) -> None:
    expiries = told.expiries(requirement)
    if not expiries:
        return
    shortest = [rule for rule, limit in expiries.items() if limit == requirement.expires]
    longer = [
        f"{rule} alone: {'never' if limit is None else duration(limit)}"
        for rule, limit in expiries.items()
        if limit != requirement.expires
    ]
    limit = "" if requirement.expires is None else duration(requirement.expires)
    sets = "sets" if len(shortest) == 1 else "set"
    told_of = f"{listed(shortest)} {sets} the {limit} ({', '.join(longer)})."
    _say(f"The shortest time counts: {one_line(told_of)}", 2)


def _print_recorded(told: Explanation, recorded: RecordedCall) -> None:
    rules = f", by {listed(recorded.rules)}" if recorded.rules else ""
    verdict = told.verdict
    same = (recorded.effect, set(recorded.rules)) == (verdict.effect, set(verdict.rules))
    now = "as now" if same else "otherwise than the policy says now"
    _say(f"When it was made ({recorded.at}) it got {recorded.effect}{one_line(rules)}: {now}.")
    for key in recorded.effects:
        # A denied or held write denies or holds the action: that is a question of its own.
        _say(
            f"It would also write the state key {one_line(repr(key))}, which is judged as a "
            "state_write of it (--type state_write)."
        )


def _print_call(told: Explanation, *, named: bool) -> None:
    contract = told.facts.contract
    terms: list[str] = [contract.reversibility, contract.blast_radius]
    terms += [f"labels {', '.join(contract.labels)}"] if contract.labels else []
    terms += [f"emits {', '.join(contract.emits)}"] if contract.emits else []
    _heading("the call")
    _say(Text.assemble((one_line(contract.name), "bold"), f": {one_line(', '.join(terms))}"), 2)
    if not named:
        note = "the config does not name this tool, so this is the conservative contract"
        _say(Text.assemble(("note: ", "bold yellow"), note), 2)
    _say(told.level, 2)
    for row in pretty(told.facts.args).split("\n"):
        space = len(row) - len(row.lstrip())
        _say(row.lstrip(), 2 + space)


def _print_why(told: Explanation, *, verbose: bool) -> None:
    if told.why:
        _heading("why" if told.verdict.rules else "rules that come first")
    for item in told.why:
        _print_rule(told, item, verbose=verbose)


def _print_others(told: Explanation, *, verbose: bool) -> None:
    others = [item for item in told.about if item not in told.why]
    if others:
        _heading("other rules about such calls" if told.why else "rules about such calls")
    for item in others:
        if verbose:
            _print_rule(told, item, verbose=True)
        else:
            _say(Text.assemble(*_name(item), f": {one_line(told.outcome(item))}"), 2)
    away = [item for item in told.traces if not item.about]
    if not away:
        return
    if not verbose:
        what = "rule is" if len(away) == 1 else "rules are"
        _say("")
        _say(Text(f"{len(away)} {what} about other calls (--verbose: all in full).", "dim"))
        return
    _heading("rules about other calls")
    for item in away:
        _say(Text(f"{one_line(item.rule.id)}: {one_line(target(item))}", style="dim"), 2)


def _print_rule(told: Explanation, item: RuleTrace, *, verbose: bool) -> None:
    rule = item.rule
    reason = "" if rule.reason is None else f": {one_line(rule.reason)}"
    _say(Text.assemble(*_name(item, bold=told.decides(item)), reason), 2, hang=6)
    clauses = [
        (word, condition, answer)
        for word, condition, answer in (
            ("when", rule.when, item.when),
            ("unless", rule.unless, item.unless),
        )
        if condition is not None
    ]
    for word, condition, answer in clauses:
        _print_condition(word, condition)
        if answer is not None:
            for fact in told.read(condition):
                _say(_fact(fact, verbose=verbose), 10)
        last = answer is None or (word, condition, answer) == clauses[-1] or item.unless is None
        _say(_answer(told, item, answer, last=last), 6)
    if not clauses:
        _say(f"without a condition, so it {told.outcome(item)}", 6)


def _name(item: RuleTrace, *, bold: bool = False) -> tuple[str | tuple[str, str], ...]:
    effect = (item.rule.effect, _COLOURS[item.rule.effect])
    return (one_line(item.rule.id), "bold" if bold else ""), " (", effect, ")"


def _print_condition(word: str, condition: Condition) -> None:
    """Print a condition with its own lines: joined, a comment would hide what follows it."""
    first, *more = textwrap.dedent(condition.source).strip().split("\n")
    _say(f"{word} {printable(first.rstrip())}", 6, hang=len(word) + 3)
    for row in filter(str.strip, more):
        space = len(row) - len(row.lstrip())
        _say(printable(row.strip()), 6 + len(word) + 1 + space, hang=2)


def _fact(fact: Fact, *, verbose: bool) -> str:
    if fact.absent:
        return f"{one_line(fact.name)} is absent"
    text = one_line(json.dumps(fact.value, ensure_ascii=False, sort_keys=True))
    return f"{one_line(fact.name)} = {text if verbose else _short(text, fact.value)}"


def _short(text: str, value: JSONValue) -> str:
    if len(text) <= _LONGEST:
        return text
    size = f"{len(value)} items" if isinstance(value, list | dict) else f"{len(text)} characters"
    return f"{text[:_LONGEST]}… ({size})"


def _answer(told: Explanation, item: RuleTrace, answer: Answer, *, last: bool) -> str:
    if answer is None:
        return "is not asked"
    if answer == "error":
        return one_line(told.outcome(item))
    said = f"is {str(answer).lower()}"
    if not last:
        return said
    applies = "applies" if item.matches else "does not apply"
    observes = ", but only observes" if told.observes(item) else ""
    return f"{said}, so the rule {applies}{observes}"


def _heading(text: str) -> None:
    _say("")
    _say(Text(text, style="bold"))


def _say(said: Text | str, indent: int = 0, hang: int = 4) -> None:
    """Print a text; in a terminal, what does not fit goes on ``hang`` columns further in."""
    text = said if isinstance(said, Text) else Text(said)
    rows = [text]
    if in_terminal():
        rows = list(text.wrap(console, max(console.width - indent - hang, _NARROWEST)))
    for number, row in enumerate(rows):
        row.rstrip()
        console.print(Text(" " * (indent + (hang if number else 0))) + row, soft_wrap=True)
