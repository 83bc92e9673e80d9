"""Toolgate inside a Python program: the kernel without a sidecar and without a wire.

What a gate does for a client over a pipe, :class:`Kernel` does for the program it lives in: the
same decisions, the same journal, the same holds. The program says how tools are executed; nothing
else of it is trusted with a decision. ``kernel`` has the methods, ``calls`` the tasks that
carry them out, ``bodies`` those that run tools' bodies, ``given`` what the program may say.
"""

from toolgate.analysis import Equivalence, Optimized, Ranked, Verification
from toolgate.config import GateConfig, load_config, parse_config
from toolgate.embedding.bodies import Executor, in_thread
from toolgate.embedding.given import InvalidInput, Proposal, State
from toolgate.embedding.kernel import Kernel, TooManyCalls
from toolgate.errors import (
    ConfigError,
    JournalError,
    JournalTampered,
    JournalUnavailable,
    JSONError,
    PolicyError,
    SchemaError,
    ToolgateError,
)
from toolgate.ir import (
    Action,
    ActionProposal,
    ActionResult,
    ActionStatus,
    ActionType,
    CostTarget,
    Outcome,
    OutcomeError,
    OutcomeKind,
    ProposalResult,
    ProposalStatus,
    ToolSchema,
)
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import ToolRun
from toolgate.kernel.past import Document
from toolgate.kernel.recording import Unrecorded
from toolgate.kernel.result import ToolOutput, ToolSuspended
from toolgate.kernel.steps import KeyConflict
from toolgate.kernel.tools import ToolConflict
from toolgate.policy.contracts import Contract

__all__ = [
    "Action",
    "ActionProposal",
    "ActionResult",
    "ActionStatus",
    "ActionType",
    "ConfigError",
    "Contract",
    "CostTarget",
    "Document",
    "Equivalence",
    "Executor",
    "GateConfig",
    "InvalidInput",
    "JSONError",
    "JSONValue",
    "JournalError",
    "JournalTampered",
    "JournalUnavailable",
    "Kernel",
    "KeyConflict",
    "Optimized",
    "Outcome",
    "OutcomeError",
    "OutcomeKind",
    "PolicyError",
    "Proposal",
    "ProposalResult",
    "ProposalStatus",
    "Ranked",
    "SchemaError",
    "State",
    "TooManyCalls",
    "ToolConflict",
    "ToolOutput",
    "ToolRun",
    "ToolSchema",
    "ToolSuspended",
    "ToolgateError",
    "Unrecorded",
    "Verification",
    "in_thread",
    "load_config",
    "parse_config",
]
