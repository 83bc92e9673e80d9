"""``toolgate policy explain``: why a call is allowed, held or denied, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, ValidationError

from toolgate import clock, jsonvalue
from toolgate.cli.policy.became import became
from toolgate.cli.policy.cases import PolicyOption
from toolgate.cli.policy.explained import Page
from toolgate.cli.policy.recorded import find
from toolgate.cli.terminal import ConfigOption, JSONOption, config_of, print_json, reported
from toolgate.config import GateConfig
from toolgate.errors import JSONError, SchemaError, ToolgateError
from toolgate.ir import ActionType
from toolgate.journal.opening import inspect_journal
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.redaction import Redaction, kind_of
from toolgate.kernel.tools import MASK
from toolgate.policy import compile_policy
from toolgate.policy.documents import with_document
from toolgate.policy.explain import Explanation, explain
from toolgate.policy.facts import CallFacts
from toolgate.policy.replay import NOT_RECORDED, RecordedCall
from toolgate.policy.situation import Moment, Setting, Situation
from toolgate.policy.untold import NOTHING, Gone
from toolgate.sourcefile import dotted, message
from toolgate.validation import compile_schema


class _Question(ToolgateError):
    """What was asked about is not a call; the message says why."""


class _Asked(Situation):
    """A call that is asked about: it is made now, unless that is said."""

    now: Moment = Field(default_factory=lambda: f"{clock.to_text(clock.now())[:19]}Z")


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
        str | None, typer.Option(help="Session state, added to the config's: JSON, or @FILE.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Session facts, as in a test's `session`: JSON, or @FILE.")
    ] = None,
    now: Annotated[
        str | None, typer.Option(help="When: a time with its zone; by default now.", metavar="TIME")
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
        recorded = redaction = since = situation = None
        if uid is None:
            situation = _situation(tool, args, type_, state, session, now)
            facts = situation.facts(Setting.of(loaded))
        else:
            asked = {"tool": tool, "state": state, "session": session, "now": now}
            for name in (name for name, value in asked.items() if value is not None):
                raise _Question(f"--uid names a recorded call, so --{name} has no place beside it")
            journal = inspect_journal(loaded)
            recorded, redaction = find(journal, loaded, uid)
            since = became(journal, loaded, uid)
            facts = recorded.facts
        gone = NOTHING if recorded is None else recorded.gone
        explanation = explain(compile_policy(loaded), facts, gone)
        if redaction is not None:
            explanation = _covered(explanation, redaction)
        page = Page(
            explanation,
            before=_before_policy(loaded, facts, gone),
            recorded=recorded,
            since=since,
            assumed=_assumed(explanation, situation),
            named=facts.action_type != ActionType.TOOL_CALL or facts.contract.name in loaded.tools,
            verbose=verbose,
        )
    if as_json:
        print_json(
            {
                **explanation.to_json(),
                "before_policy": list(page.before),
                "assumed": list(page.assumed),
                "recorded": _recorded(recorded),
                "became": None if since is None else since.to_json(),
            }
        )
    else:
        page.print()


def _covered(told: Explanation, redaction: Redaction) -> Explanation:
    """Return an explanation that tells nothing of redacted arguments."""
    facts = told.facts._replace(args=redaction.args)
    read = told.facts._replace(args=redaction.leaf_by_leaf(told.facts.args))
    traces = [
        item if item.error is None else replace(item, error=kind_of(item.error))
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
    tool: str | None,
    args: str,
    kind: ActionType,
    state: str | None,
    session: str | None,
    now: str | None,
) -> Situation:
    if tool is None and kind is ActionType.TOOL_CALL:
        raise _Question("name a call with --tool, a state action with --type, or --uid")
    said: dict[str, Any] = {"tool": tool, "type": kind.value}
    for name, text in (("args", args), ("state", state), ("session", session)):
        if text is not None:
            said[name] = _value(name, text)
    if now is not None:
        said["now"] = now
    try:
        return _Asked.model_validate(said)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _Question(
            "; ".join(f"--{dotted(d['loc']) or 'tool'}: {message(d)}" for d in details)
        ) from None


def _assumed(told: Explanation, situation: Situation | None) -> list[str]:
    """Say what rules about such calls read that nobody has told."""
    names = {name for t in told.about for item in t.rule.conditions for name in item.names}
    if situation is not None:
        return situation.assumed(names)
    return [text for name, text in NOT_RECORDED.items() if name in names]


def _value(name: str, text: str) -> JSONValue:
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return jsonvalue.parse(data)
    except OSError as error:
        raise _Question(f"--{name}: {text[1:]} cannot be read: {error.strerror}") from None
    except (JSONError, UnicodeEncodeError) as error:
        raise _Question(f"--{name} is not JSON: {error}") from None


def _before_policy(config: GateConfig, facts: CallFacts, gone: Gone) -> list[str]:
    """Return why such a call would never reach policy; of what is gone nobody can say so."""
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
    return found + [
        f"{problem.pointer or '/'}: {problem.message}"
        for problem in schema.problems(facts.args)
        if not gone.among(jsonvalue.pointer_parts(problem.pointer) if problem.pointer else ())
    ]


def _recorded(call: RecordedCall | None) -> JSONValue:
    if call is None:
        return None
    return {
        "at": call.at,
        "effect": call.effect,
        "rules": list(call.rules),
        "reason": call.reason,
        "effects": dict(call.effects),
    }
