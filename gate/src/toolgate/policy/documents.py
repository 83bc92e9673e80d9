"""Which policy an author's tool works on: a deployment's, a draft in its place, or one alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from toolgate.config import GateConfig, parse_config
from toolgate.errors import PolicyError
from toolgate.jsonvalue import JSONValue
from toolgate.sourcefile import SourceFile, UnreadableSource, read

_CONSTANT: Final = re.compile(r"\bvars\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")


def unsigned(config: GateConfig) -> GateConfig:
    """Return the same configuration, of which no signature is asked: an author is still writing."""
    return _with_policy(config, require_signature=False)


def enforced(config: GateConfig) -> GateConfig:
    """Return the same configuration in mode ``enforce``: the question is of its document."""
    return config.model_copy(update={"mode": "enforce"})


def with_document(config: GateConfig, path: Path) -> GateConfig:
    """Return the configuration with the draft at ``path`` as its policy document, unsigned."""
    return _with_policy(config, file=path.absolute(), rules=None, require_signature=False)


def _with_policy(config: GateConfig, **changes: object) -> GateConfig:
    return config.model_copy(update={"policy": config.policy.model_copy(update=changes)})


@dataclass(frozen=True, slots=True)
class Alone:
    """A document without its deployment: a configuration that suits it, and what was assumed."""

    config: GateConfig
    assumed: Sequence[str]


def alone(
    path: Path,
    *,
    constants: Mapping[str, JSONValue] | None = None,
    allow_up_to: int = 0,
) -> Alone:
    """Return a configuration for a document that is looked at by itself.

    The approvers it names are taken to be pinned. Without ``constants``, those it uses are taken to
    exist. Raises :class:`PolicyError` when the file is not well-formed.
    """
    source = read_document(path)
    rules = [rule for rule in _rules(source) if isinstance(rule, dict)]
    assumed = []
    approvers, named = _approvers(rules)
    if named:
        assumed.append(f"the config pins the approvers {', '.join(named)}")
    if constants is None:
        texts = [rule.get(key) for rule in rules for key in ("when", "unless")]
        names = {n for t in texts if isinstance(t, str) for n in _CONSTANT.findall(t)}
        constants = dict.fromkeys(sorted(names))
        if names:
            assumed.append(f"policy.vars have {', '.join(sorted(names))}, of a fitting type")
    config = parse_config(
        {
            "project": "alone",
            "policy": {"vars": dict(constants), "allow_up_to": allow_up_to},
            "approvals": {
                "approvers": [{"id": name, "public_key": f"key of {name}"} for name in approvers]
            },
        },
        path.absolute().parent,
    )
    return Alone(with_document(config, path), assumed)


def read_document(path: Path) -> SourceFile:
    """Read a document as it is written; raises :class:`PolicyError`."""
    try:
        return read(path)
    except UnreadableSource as error:
        raise PolicyError(str(path), error.problems) from None


def _rules(source: SourceFile) -> list[Any]:
    rules = source.value.get("rules") if isinstance(source.value, dict) else None
    return rules if isinstance(rules, list) else []


def _approvers(rules: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return enough approvers for the rules, and which of them the rules name."""
    named: dict[str, None] = {}
    quorum = 1
    for rule in rules:
        terms = rule.get("approval")
        if isinstance(terms, dict):
            names = terms.get("approvers")
            items = names if isinstance(names, list) else []
            named.update(dict.fromkeys(name for name in items if isinstance(name, str) and name))
            wanted = terms.get("quorum")
            quorum = max(quorum, min(wanted, 100) if isinstance(wanted, int) else 1)
    others = [f"approver {n}" for n in range(1, quorum + 1 - len(named))]
    return [*named, *others], list(named)
