"""An explanation as people read it: the verdict and who is asked, then why, then the other rules.

In a terminal it is fitted into the width, each text below its own beginning. In a pipe no line is
wrapped, and no value cut. Rules that decide nothing get a line each, and in a terminal values
longer than a line are shortened, unless all is asked for.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from toolgate.cli.policy.became import Became
from toolgate.cli.terminal import console, in_terminal, one_line, pretty, printable
from toolgate.policy.conditions import Condition
from toolgate.policy.explain import Explanation, Fact, duration, target
from toolgate.policy.replay import RecordedCall
from toolgate.policy.requirement import ApprovalRequirement, asks, listed
from toolgate.policy.trace import Answer, RuleTrace
from toolgate.policy.untold import UNTOLD
from toolgate.policy.verdict import Verdict

_COLOURS: Final = {"allow": "bold green", "hold": "bold yellow", "deny": "bold red"}
_WORDS: Final = {"allow": "ALLOWED", "hold": "HELD", "deny": "DENIED"}
_LONGEST: Final = 80
"""Characters of a value that are shown unless all are asked for."""
_NARROWEST: Final = 20
"""Columns that a text gets, however narrow the terminal is."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is told of one call.

    ``before`` is why such a call would not reach policy; ``recorded`` the call of the journal that
    it is, and ``since`` what has become of it; ``assumed`` what nobody has said that rules about
    such calls read. ``named`` tells whether the config has a contract for the tool. ``verbose``
    shortens no value and shows every rule in full.
    """

    told: Explanation
    before: Sequence[str]
    recorded: RecordedCall | None
    since: Became | None
    assumed: Sequence[str]
    named: bool
    verbose: bool

    def print(self) -> None:
        """Print it for people."""
        told, recorded = self.told, self.recorded
        if recorded is not None and told.gone.pointers:
            _print_gone(told, recorded)
        self._print_verdict()
        if recorded is not None:
            _print_recorded(told, recorded)
        if self.since is not None:
            for sentence in self.since.sentences():
                _say(one_line(sentence))
        for text in self.assumed:
            _say(Text.assemble(("assumed: ", "cyan"), one_line(text)), hang=2)
        _print_call(told, named=self.named)
        _print_why(told, verbose=self.verbose)
        _print_others(told, verbose=self.verbose)

    def _print_verdict(self) -> None:
        told, first = self.told, None
        if self.before:
            name = one_line(told.facts.contract.name)
            rejected = f": {name} would be rejected before policy is asked:"
            _say(Text.assemble(("REJECTED", "bold red"), rejected), hang=2)
            for problem in self.before:
                _say(one_line(problem), 2)
            first = Text("If it came to policy: ")
        elif told.gone.pointers:
            first = Text("As the policy is now: ")
        if told.depends_on:
            _say(
                Text.assemble(first or "", ("NOT TOLD", "bold"), f": {told.summary(told.verdict)}.")
            )
            return
        _print_verdict(told, told.verdict, first)
        if told.verdict.observed is not None:
            _print_verdict(
                told, told.verdict.observed, Text("OBSERVED ONLY, enforced it would be ")
            )


def _print_gone(told: Explanation, recorded: RecordedCall) -> None:
    """Begin with what was decided: of a call whose arguments are gone, that is what is certain."""
    effect = (_WORDS.get(recorded.effect, recorded.effect), _COLOURS.get(recorded.effect, "bold"))
    rules = f" by {listed(recorded.rules)}" if recorded.rules else ""
    name = told.facts.contract.name
    said = f" when it was made ({recorded.at}): {name}{rules}: {recorded.reason}"
    _say(Text.assemble(effect, one_line(said)), hang=2)
    gone = (
        f": {listed(told.gone.pointers)} of its arguments. Only digests are left of them: what "
        "conditions say that read them cannot be told."
    )
    _say(Text.assemble(("REDACTED AND GONE", "bold red"), one_line(gone)), hang=2)


def _print_verdict(told: Explanation, verdict: Verdict, before: Text | None = None) -> None:
    groups = [] if verdict.requirement is None else asks(verdict.requirement)
    end = ":" if len(groups) > 1 else "."
    effect = (_WORDS[verdict.effect], _COLOURS[verdict.effect])
    _say(Text.assemble(before or "", effect, f": {one_line(told.summary(verdict))}{end}"), hang=2)
    if len(groups) > 1:
        width = max(len(one_line(group)) for group in groups)
        for group in groups:
            _say(f"{one_line(group):{width}}  for {one_line(group.whose)}", 2, hang=width + 2)
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
    if not told.gone.pointers:
        _say(f"When it was made ({recorded.at}) it got {recorded.effect}{one_line(rules)}: {now}.")
    elif not told.depends_on:
        _say(f"That is {'the same' if same else 'otherwise'}, whatever these arguments were.")
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
    why = told.why
    never = [] if verbose else [item for item in told.never if item not in why]
    others = [item for item in told.about if item not in why and item not in never]
    if others:
        _heading("other rules about such calls" if why else "rules about such calls")
    for item in others:
        if verbose:
            _print_rule(told, item, verbose=True)
        else:
            _say(Text.assemble(*_name(item), f": {one_line(told.outcome(item))}"), 2)
    if never:
        if not others:
            _heading("other rules about such calls" if why else "rules about such calls")
        names = listed(one_line(item.rule.id) for item in never)
        _say(f"{names}: can match no call of this {told.kind}", 2)
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
        if answer is False:
            for part in told.false_parts(condition):
                _say(f"false is: {one_line(part)}", 10)
    if item.matches is None:
        _say("so whether the rule applies cannot be told", 6)
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
    return f"{one_line(fact.name)} = {text if verbose else _short(text)}"


def _short(text: str) -> str:
    """Shorten a value for a terminal; a pipe has no width, and gets all of it."""
    if len(text) <= _LONGEST or not in_terminal():
        return text
    return f"{text[:_LONGEST]}… ({_LONGEST} of {len(text)} characters; --verbose: all)"


def _answer(told: Explanation, item: RuleTrace, answer: Answer, *, last: bool) -> str:
    if answer is None:
        return "is not asked"
    if answer == "error":
        said = (
            told.outcome(item)
            if item.matches is not None
            else f"cannot be evaluated ({item.error})"
        )
        return one_line(said)
    if answer == UNTOLD:
        return "cannot be told: it reads redacted arguments, which are gone"
    said = f"is {str(answer).lower()}"
    if not last or item.matches is None:
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
