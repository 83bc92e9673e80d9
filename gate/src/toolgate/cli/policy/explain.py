"""``toolgate policy explain``: why a call is allowed, held or denied, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from toolgate import jsonvalue
from toolgate.cli.policy.cases import PolicyOption
from toolgate.cli.policy.explained import print_explanation
from toolgate.cli.policy.recorded import find
from toolgate.cli.terminal import ConfigOption, JSONOption, config_of, print_json, reported
from toolgate.config import GateConfig
from toolgate.errors import JSONError, SchemaError, ToolgateError
from toolgate.ir import ActionType
from toolgate.journal.opening import inspect_journal
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.redaction import Redaction
from toolgate.kernel.tools import MASK
from toolgate.policy import compile_policy
from toolgate.policy.documents import with_document
from toolgate.policy.explain import Explanation, explain
from toolgate.policy.facts import CallFacts
from toolgate.policy.replay import RecordedCall
from toolgate.policy.situation import Setting, Situation
from toolgate.sourcefile import dotted, message
from toolgate.validation import compile_schema


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
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show every rule, and every value, in full.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Explain what policy says of a call: each rule, the tool's level, and who would be asked."""
    with reported():
        loaded = config_of(config)
        if policy is not None:
            loaded = with_document(loaded, policy)
        recorded = redaction = None
        if uid is None:
            facts = _situation(tool, args, type_, state, session, now).facts(Setting.of(loaded))
        elif tool is not None:
            raise _Question("--uid names a recorded call, so --tool has no place beside it")
        else:
            recorded, redaction = find(inspect_journal(loaded), loaded, uid)
            facts = recorded.facts
        before = _before_policy(loaded, facts)
        named = facts.action_type != ActionType.TOOL_CALL or facts.contract.name in loaded.tools
        explanation = explain(compile_policy(loaded), facts)
        if redaction is not None:
            explanation = _covered(explanation, redaction)
    if as_json:
        print_json(
            {**explanation.to_json(), "before_policy": before, "recorded": _recorded(recorded)}
        )
    else:
        print_explanation(explanation, before, recorded, named=named, verbose=verbose)


def _covered(told: Explanation, redaction: Redaction) -> Explanation:
    """Return an explanation that tells nothing of redacted arguments."""
    facts = replace(told.facts, args=redaction.args)
    read = replace(told.facts, args=redaction.leaf_by_leaf(told.facts.args))
    traces = [
        item if item.error is None else replace(item, error=redaction.text(item.error))
        for item in told.traces
    ]
    return replace(
        told,
        facts=facts,
        verdict=redaction.verdict(told.verdict),
        traces=traces,
        call=told.policy.any_call(read),
    )


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
        mask = MASK if facts.contract.redact else None
        schema = compile_schema(facts.contract.parameters or {}, mask)
    except SchemaError as error:
        return [*found, str(error)]
    problems = schema.problems(facts.args)
    return found + [f"{problem.pointer or '/'}: {problem.message}" for problem in problems]


def _recorded(call: RecordedCall | None) -> JSONValue:
    if call is None:
        return None
    decided: dict[str, JSONValue] = {"effect": call.effect, "rules": list(call.rules)}
    return {"at": call.at, **decided, "effects": dict(call.effects)}
