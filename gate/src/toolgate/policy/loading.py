"""Makes a policy ready to decide: reads its document, checks every rule, compiles conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from toolgate import globs, jsonvalue
from toolgate.config import GateConfig
from toolgate.errors import ApprovalError, PolicyError
from toolgate.fields import Expiry
from toolgate.policy import signing
from toolgate.policy.conditions import Condition, ConditionCompiler, ConditionError
from toolgate.policy.contracts import ALWAYS_HELD
from toolgate.policy.document import ApprovalTerms, PlacedRule, read_document, read_rules
from toolgate.policy.verdict import (
    ANYBODY,
    ApprovalRequirement,
    ApproverGroup,
    CompiledRule,
    Policy,
)
from toolgate.sourcefile import Problems, SourceFile, UnreadableSource, load, parse

OBSERVE_WARNING: Final = (
    "OBSERVE MODE (mode: observe): what policy would deny or hold PASSES and is only journaled; "
    "levels 4 and 5, capabilities, schemas, preconditions and limits still hold"
)

UNSIGNED_WARNING: Final = (
    "UNSIGNED APPROVALS (approvals.allow_unsigned: true): whoever can write the journal's file can "
    "approve what is held, in any name; for development only"
)


def compile_policy(config: GateConfig) -> Policy:
    """Read and compile the policy a configuration names; without one, no rules (id ``none``).

    Where a signature is required, it is verified over the very bytes that are compiled. Raises
    :class:`PolicyError` with everything that is wrong with it, in the order of its lines.
    """
    section = config.policy
    source, policy_id, placed, problems = _read_rules(config)
    try:
        compiler = ConditionCompiler(section.vars)
    except ConditionError as error:
        # Without its constants no condition can be judged: these problems come alone.
        raise PolicyError(
            config.source.name,
            [
                *(f"policy.vars: {problem}" for problem in error.problems),
                "until then no rule can be judged: more may be wrong",
            ],
        ) from None
    rules = [_compile_rule(item, config, compiler, problems) for item in placed]
    if problems:
        raise PolicyError(source.name, list(problems))
    document = {
        "version": 1,
        "id": policy_id,
        "rules": [item.rule.model_dump(mode="json", exclude_defaults=True) for item in placed],
        "allow_up_to": section.allow_up_to,
        "vars": section.vars,
    }
    return Policy(
        policy_id,
        jsonvalue.digest(document),
        rules,
        compiler,
        allow_up_to=section.allow_up_to,
        floor=ApprovalRequirement(
            (ApproverGroup(None, _pinned(config), 1),),
            _seconds(config.approvals.expires),
            config.approvals.allow_unsigned,
        ),
        warnings=_warnings(rules, placed, config, Problems(source.lines)),
        observing=config.mode == "observe",
    )


def _read_rules(config: GateConfig) -> tuple[SourceFile, str, list[PlacedRule], Problems]:
    """Return where the rules are written, the document's id, its rules, and their problems."""
    section = config.policy
    signers = signing.pinned_signers(config)
    if section.file is None:
        problems = Problems(config.source.lines)
        if section.rules is None:
            return config.source, "none", [], problems
        rules = read_rules(section.rules, ("policy", "rules"), problems)
        return config.source, "inline", rules, problems
    try:
        text = load(section.file)
        if section.require_signature:
            signing.verify(section.file, text, signers)
        source = parse(section.file, text)
    except ApprovalError as error:
        raise PolicyError(str(section.file), [str(error)]) from None
    except UnreadableSource as error:
        raise PolicyError(str(section.file), [*error.problems, *_named_by(config)]) from None
    problems = Problems(source.lines)
    policy_id, rules = read_document(source.value, problems)
    return source, policy_id, rules, problems


def _named_by(config: GateConfig) -> list[str]:
    """Say which key of which file names the policy document, unless a draft is in its place."""
    value, file = config.source.value, config.policy.file
    section = value.get("policy") if isinstance(value, dict) else None
    named = section.get("file") if isinstance(section, dict) else None
    if not isinstance(named, str):
        return []
    if "${" not in named and Path(config.source.name).parent / named != file:
        return []
    line = config.source.line(("policy", "file"))
    return [f"it is named by policy.file of {config.source.name}{f', line {line}' * bool(line)}"]


def _compile_rule(
    placed: PlacedRule, config: GateConfig, compiler: ConditionCompiler, problems: Problems
) -> CompiledRule:
    rule, terms = placed.rule, placed.rule.approval or ApprovalTerms()

    def condition(field: str, text: str | None) -> Condition | None:
        try:
            return None if text is None else compiler.compile(text)
        except ConditionError as error:
            for problem in error.problems:
                subject = f"{placed.subject}: {field}"
                problems.add((*placed.location, field), problem, subject=subject)
            return None

    pinned = _pinned(config)
    unknown = sorted(set(terms.approvers or ()) - set(pinned))
    if unknown and not config.approvals.allow_unsigned:
        problems.add(
            (*placed.location, "approval", "approvers"),
            f"{', '.join(unknown)} is not among approvals.approvers of the configuration",
            subject=f"{placed.subject}: approval.approvers",
        )
    approvers = tuple(sorted(terms.approvers)) if terms.approvers is not None else pinned
    if terms.quorum > max(len(approvers), 1) and approvers != ANYBODY:
        problems.add(
            (*placed.location, "approval", "quorum"),
            f"{terms.quorum} must approve, but there are only {len(approvers)} approvers",
            subject=f"{placed.subject}: approval.quorum",
        )
    return CompiledRule(
        id=rule.id,
        effect=rule.effect,
        reason=rule.reason,
        types=frozenset(rule.types or ()),
        tools=rule.tools,
        globs=None if rule.tools is None else tuple(globs.compiled(glob) for glob in rule.tools),
        when=condition("when", rule.when),
        unless=condition("unless", rule.unless),
        group=ApproverGroup(rule.id, approvers, terms.quorum, terms.edit),
        expires=_seconds(terms.expires or config.approvals.expires),
        observed=rule.mode == "observe",
    )


def _warnings(
    rules: Sequence[CompiledRule], placed: Sequence[PlacedRule], config: GateConfig, found: Problems
) -> list[str]:
    for item, rule in zip(placed, rules, strict=True):
        for index, glob in enumerate(rule.globs or ()):
            text = (item.rule.tools or ())[index]
            if text != "*" and not any(map(glob.match, config.tools)):
                found.add(
                    (*item.location, "tools", index),
                    f"{text} matches no configured tool",
                    subject=item.subject,
                )
    observing = config.mode == "observe"
    warnings = [OBSERVE_WARNING] if observing else []
    warnings += [UNSIGNED_WARNING] if config.approvals.allow_unsigned else []
    warnings += [
        f"rule {rule.id} only observes: it would {rule.effect}, and decides nothing"
        for rule in rules
        if rule.observed
    ]
    warnings += found
    holds = [] if observing else [r for r in rules if r.effect == "hold" and not r.observed]
    holding = [f"rule {rule.id}" for rule in holds]
    holding += [f"level 4 of {n}" for n, tool in config.tools.items() if tool.level == ALWAYS_HELD]
    if holding and not _pinned(config):
        warnings.append(
            f"approvals.approvers is empty, so what {', '.join(holding)} would hold is rejected"
        )
    return warnings


def _pinned(config: GateConfig) -> tuple[str, ...]:
    """Return whoever may answer where no rule says; without signatures that may be anybody."""
    pinned = tuple(sorted(approver.id for approver in config.approvals.approvers))
    return ANYBODY if config.approvals.allow_unsigned and not pinned else pinned


def _seconds(expiry: Expiry) -> float | None:
    return None if expiry == "never" else expiry
