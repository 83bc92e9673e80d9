"""What can be found in a proposal.

================== ======== ==================================================================
code               severity what it says
================== ======== ==================================================================
duplicate_id       error    two actions have one id
unknown_id         error    an action names an id that is no action's, or a compensator's
cycle              error    actions wait for each other
too_many_actions   error    there are more than ``max_actions``
invalid_action     error    a tool call without a tool, a state action without a key
unregistered_tool  error    nobody has registered the tool, or that of the compensation
invalid_arguments  error    the arguments do not match the tool's schemas
unresolved         error    a reference leads to nothing in an output that is known
missing_key        error    a key of ``state_dependencies`` is not there when the action runs
precondition       error    a precondition does not hold then
assertion          error    an assertion does not hold then
repeated_call      warning  the same call twice; an error, three times and more (heuristic)
unordered_writers  warning  only their place in the list says which of two writes a key last
unknown_field      warning  a field that there is none of, so it is ignored
no_value           warning  a write or an assertion names no value, so that null is meant
no_reference       warning  a text looks like a reference and is none (heuristic)
no_compensation    warning  an action is ``compensable`` and names no compensation
idle_compensation  warning  an action names a compensation and is ``irreversible``
idle_retries       warning  ``max_retries`` of an action whose failure is not retried
unknown_key        warning  which key a state action is about is only known when it runs
capability_denied  info     the session's capabilities, as they are, would refuse the action
policy_denied      info     policy, as it is, would deny the action
policy_held        info     policy, as it is, would hold the action for a person
================== ======== ==================================================================

A *decision procedure* is right whenever every tool succeeds and nobody else writes the state. A
*heuristic* may be wrong: a precondition on a key that the plan itself writes (preconditions make no
edges, so the order may be another), policy's word on arguments that are not known yet and on what
compensates, the same call several times, and text that looks like a reference, which may be meant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from toolgate.jsonvalue import JSONValue

Severity: TypeAlias = Literal["error", "warning", "info"]
Code: TypeAlias = Literal[
    "duplicate_id",
    "unknown_id",
    "cycle",
    "too_many_actions",
    "invalid_action",
    "unregistered_tool",
    "invalid_arguments",
    "unresolved",
    "missing_key",
    "precondition",
    "assertion",
    "repeated_call",
    "unordered_writers",
    "unknown_field",
    "no_value",
    "no_reference",
    "no_compensation",
    "idle_compensation",
    "idle_retries",
    "unknown_key",
    "capability_denied",
    "policy_denied",
    "policy_held",
]
Tier: TypeAlias = Literal["decision_procedure", "heuristic"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. ``action_id`` is the action it is about, None for the proposal as a whole."""

    action_id: str | None
    severity: Severity
    code: Code
    message: str
    tier: Tier = "decision_procedure"
    compensating: bool = False
    """Whether it is about what compensates the action; the message says so."""

    def of_compensation(self) -> Issue:
        """Return the same finding, about what compensates the action."""
        return replace(self, message=f"its compensation: {self.message}", compensating=True)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "action_id": self.action_id,
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "tier": self.tier,
        }
