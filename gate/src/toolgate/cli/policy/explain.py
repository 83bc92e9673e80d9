"""``toolgate policy explain``: why a call is allowed, held or denied, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from toolgate import jsonvalue
from toolgate.cli.policy.cases import PolicyOption
from toolgate.cli.policy.recorded import find
from toolgate.cli.terminal import (
    ConfigOption,
    JSONOption,
    config_of,
    console,
    one_line,
    pretty,
    print_json,
    reported,
)
from toolgate.config import GateConfig
from toolgate.errors import JSONError, SchemaError, ToolgateError
from toolgate.ir import ActionType
from toolgate.journal.opening import inspect_journal
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.capabilities import Capabilities
from toolgate.policy import compile_policy
from toolgate.policy.documents import with_document
from toolgate.policy.explain import Explanation, explain, target
from toolgate.policy.facts import CallFacts
from toolgate.policy.replay import RecordedCall
from toolgate.policy.situation import Setting, Situation
from toolgate.policy.trace import Answer, RuleTrace
from toolgate.policy.verdict import ApprovalRequirement
from toolgate.sourcefile import dotted, message
from toolgate.validation import compile_schema

_COLOURS = {"allow": "bold green", "hold": "bold yellow", "deny": "bold red"}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


class _Question(ToolgateError):
    """What was asked about is not a call; the message says why."""


def explain_call(
    config: ConfigOption,
    tool: Annotated[str | None, typer.Option(help="The tool that is called.")] = None,
    args: Annotated[
        str, typer.Option(help="The arguments: a JSON object, or @FILE with one.")
    ] = "{}",
    type_: Annotated[
        ActionType, typer.Option("--type", help="The type of the action.", metavar="TYPE")
    ] = ActionType.TOOL_CALL,
    state: Annotated[
        str, typer.Option(help="Session state, added to the config's: JSON, or @FILE.")
    ] = "{}",
    session: Annotated[
        str, typer.Option(help="Session facts, as in a test's `session`: JSON, or @FILE.")
    ] = "{}",
    now: Annotated[
        str | None, typer.Option(help="When: a time with its zone.", metavar="TIME")
    ] = None,
    uid: Annotated[
        str | None, typer.Option(help="Explain this action of the journal instead.")
    ] = None,
    policy: PolicyOption = None,
    as_json: JSONOption = False,
) -> None:
    """Explain what policy says of a call: each rule, the tool's level, and who would be asked."""
    with reported():
        loaded = config_of(config)
        if policy is not None:
            loaded = with_document(loaded, policy)
        recorded = None
        if uid is None:
            facts = _situation(tool, args, type_, state, session, now).facts(Setting.of(loaded))
        elif tool is not None:
            raise _Question("--uid names a recorded call, so --tool has no place beside it")
        else:
            recorded = find(inspect_journal(loaded), loaded, uid)
            facts = recorded.facts
        before = _before_policy(loaded, facts)
        named = facts.action_type != ActionType.TOOL_CALL or facts.contract.name in loaded.tools
        explanation = explain(compile_policy(loaded), facts)
    if as_json:
        print_json(
            {**explanation.to_json(), "before_policy": before, "recorded": _recorded(recorded)}
        )
    else:
        _print(explanation, before, recorded, named=named)


def _situation(
    tool: str | None, args: str, kind: ActionType, state: str, session: str, now: str | None
) -> Situation:
    if tool is None and kind is ActionType.TOOL_CALL:
        raise _Question("name a call with --tool, a state action with --type, or --uid")
    said: dict[str, Any] = {"tool": tool, "type": kind.value}
    for name, text in (("args", args), ("state", state), ("session", session)):
        said[name] = _value(name, text)
    if now is not None:
        said["now"] = now
    try:
        return Situation.model_validate(said)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _Question(
            "; ".join(f"--{dotted(d['loc']) or 'tool'}: {message(d)}" for d in details)
        ) from None


def _value(name: str, text: str) -> JSONValue:
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return jsonvalue.parse(data)
    except OSError as error:
        raise _Question(f"--{name}: {text[1:]} cannot be read: {error.strerror}") from None
    except (JSONError, UnicodeEncodeError) as error:
        raise _Question(f"--{name} is not JSON: {error}") from None


def _before_policy(config: GateConfig, facts: CallFacts) -> list[str]:
    """Return why such a call would never reach policy."""
    capabilities = Capabilities(config.capabilities)
    if facts.action_type != ActionType.TOOL_CALL:
        key = facts.args.get("key")
        refusal = capabilities.refusal_of_key(key) if isinstance(key, str) else None
        return [] if refusal is None else [refusal.message]
    refusal = capabilities.refusal_of_tool(facts.contract.name)
    found = [] if refusal is None else [refusal.message]
    try:
        schema = compile_schema(facts.contract.parameters or {})
    except SchemaError as error:
        return [*found, str(error)]
    problems = schema.problems(facts.args)
    return found + [f"{problem.pointer or '/'}: {problem.message}" for problem in problems]


def _recorded(call: RecordedCall | None) -> JSONValue:
    if call is None:
        return None
    decided: dict[str, JSONValue] = {"effect": call.effect, "rules": list(call.rules)}
    return {"at": call.at, **decided, "effects": dict(call.effects)}


def _print(
    explanation: Explanation,
    before: Sequence[str],
    recorded: RecordedCall | None,
    *,
    named: bool,
) -> None:
    facts, verdict = explanation.facts, explanation.verdict
    contract = facts.contract
    terms = [f"level {contract.level}", contract.reversibility, contract.blast_radius]
    terms += [f"labels {', '.join(contract.labels)}"] if contract.labels else []
    terms += [f"emits {', '.join(contract.emits)}"] if contract.emits else []
    _line(Text.assemble((one_line(contract.name), "bold"), f": {one_line(', '.join(terms))}"))
    if not named:
        note = "the config does not name this tool, so this is the conservative contract"
        _line(Text.assemble(("  note: ", "bold yellow"), note))
    for row in pretty(facts.args).split("\n"):
        _line(Text(f"  {row}"))
    if before:
        _line(Text("\nSuch a call would be rejected before policy is asked:", style="bold red"))
        for problem in before:
            _line(Text(f"  {one_line(problem)}"))
    _line(
        Text.assemble(
            "\n",
            (verdict.effect.upper(), _COLOURS[verdict.effect]),
            f": {one_line(verdict.reason)}",
        )
    )
    if verdict.requirement is not None:
        _print_requirement(verdict.requirement)
    if verdict.observed is not None:
        would_be = verdict.observed
        _line(
            Text.assemble(
                "  OBSERVED ONLY: enforced, it would be ",
                (would_be.effect.upper(), _COLOURS[would_be.effect]),
                f": {one_line(would_be.reason)}",
            )
        )
        if would_be.requirement is not None:
            _print_requirement(would_be.requirement, would=True)
    if recorded is not None:
        rules = f" by {', '.join(recorded.rules)}" if recorded.rules else ""
        _line(Text(f"  When it was made ({recorded.at}): {recorded.effect}{one_line(rules)}."))
        for key in recorded.effects:
            # A denied or held write denies or holds the action: that is a question of its own.
            _line(
                Text(
                    f"  It would also write the state key {one_line(repr(key))}, which is judged "
                    "as a state_write of it (--type state_write)."
                )
            )
    _print_rules(explanation)
    _line(Text(f"\n{explanation.level}"))


def _print_requirement(requirement: ApprovalRequirement, *, would: bool = False) -> None:
    waits, expires = ("would wait", "would expire") if would else ("waits", "expires")
    for group in requirement.groups:
        who = ", ".join(group.approvers) or "nobody (approvals.approvers is empty: it is rejected)"
        why = "for the tool's level" if group.rule is None else f"for rule {group.rule}"
        _line(Text(f"  It {waits} for {group.quorum} of: {one_line(who)} ({one_line(why)})."))
    limit = requirement.expires
    until = f"{waits} for ever" if limit is None else f"{expires} after {_duration(limit)}"
    _line(Text(f"  It {until}."))


def _print_rules(explanation: Explanation) -> None:
    about = explanation.about
    if about:
        _line(Text("\nrules about such calls", style="bold"))
    for item in about:
        _line(
            Text.assemble(
                "  ",
                (one_line(item.rule.id), "bold" if explanation.decides(item) else ""),
                " (",
                (item.rule.effect, _COLOURS[item.rule.effect]),
                f"): {explanation.outcome(item)}",
            )
        )
        for name, condition, answer in (
            ("when", item.rule.when, item.when),
            ("unless", item.rule.unless, item.unless),
        ):
            if condition is not None:
                source = one_line(" ".join(condition.source.split()))
                _line(Text(f"      {name} {source}: {_answer(item, answer)}"))
    others = [item for item in explanation.traces if not item.about]
    if others:
        _line(Text("\nrules about other calls", style="bold"))
    for item in others:
        _line(Text(f"  {one_line(item.rule.id)}: {one_line(target(item))}", style="dim"))


def _answer(item: RuleTrace, answer: Answer) -> str:
    if answer == "error":
        return f"error: {one_line(item.error)}"
    return "not asked" if answer is None else f"is {str(answer).lower()}"


def _duration(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _line(text: Text) -> None:
    console.print(text, soft_wrap=True)
