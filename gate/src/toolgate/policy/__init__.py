"""Policy: contracts of tools, rules with conditions, and the verdict on a call.

``contracts`` is what the operator says of a tool, ``document`` what a rule may say, ``conditions``
the only place that knows CEL, ``facts`` what a verdict may depend on, ``verdict`` the decision,
``requirement`` what a hold asks of people and what it still lacks,
``loading`` how a configured policy becomes one that decides, ``signing`` who stands for it.

For authors: ``situation`` is a call as they write it down, ``documents`` which policy they work
on, ``trace`` how each rule came to its answer, which ``explain`` and ``testing`` show; ``outlook``
is what is known of a tool without a call, ``doubts`` what can be true of none, ``replay`` decides
recorded calls again, ``untold`` is what cannot be told of one whose redacted arguments are gone,
``schema`` is what their editors know, ``car`` reads another gate's policies.
"""

from toolgate.policy.contracts import (
    Contract,
    cache_ttl_for,
    contract_for,
    contract_for_state_action,
    rate_limit_for,
)
from toolgate.policy.facts import CallFacts
from toolgate.policy.loading import compile_policy
from toolgate.policy.verdict import (
    ApprovalRequirement,
    ApproverGroup,
    Policy,
    RuleError,
    Verdict,
)

__all__ = [
    "ApprovalRequirement",
    "ApproverGroup",
    "CallFacts",
    "Contract",
    "Policy",
    "RuleError",
    "Verdict",
    "cache_ttl_for",
    "compile_policy",
    "contract_for",
    "contract_for_state_action",
    "rate_limit_for",
]
