"""Built-in agents: who can do what, and how a request for it becomes a task.

``profile`` is what is known of an agent and the five that ship, ``registry`` finds them by id and
capability, ``payload`` turns the JSON of a capability into the text an agent is given. Nothing here
runs a model: a profile is for whoever does.
"""

from toolgate.agents.payload import FIELDS, PayloadError, format_payload
from toolgate.agents.profile import BUILT_IN, AgentProfile
from toolgate.agents.registry import AgentRegistry, DuplicateAgent, UnknownAgent

__all__ = [
    "BUILT_IN",
    "FIELDS",
    "AgentProfile",
    "AgentRegistry",
    "DuplicateAgent",
    "PayloadError",
    "UnknownAgent",
    "format_payload",
]
