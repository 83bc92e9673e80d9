"""The registry: agents by id, and by what they can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from toolgate.agents.profile import BUILT_IN, AgentProfile
from toolgate.errors import ToolgateError


class UnknownAgent(ToolgateError):
    """There is no agent of this id; the message lists those there are."""


class DuplicateAgent(ToolgateError):
    """There is an agent of this id already; the one that was there stays."""


class AgentRegistry:
    """The built-in agents and those registered since, in that order."""

    def __init__(self, further: Iterable[AgentProfile] = ()) -> None:
        """Raises :class:`DuplicateAgent` when ``further`` takes an id that is taken."""
        self._agents: dict[str, AgentProfile] = {}
        for agent in (*BUILT_IN, *further):
            self.register(agent)

    def __iter__(self) -> Iterator[AgentProfile]:
        return iter(tuple(self._agents.values()))

    def register(self, agent: AgentProfile) -> None:
        """Add an agent; raises :class:`DuplicateAgent` when its id is taken."""
        if agent.id in self._agents:
            raise DuplicateAgent(f"there is an agent {agent.id!r} already; one id is one agent")
        self._agents[agent.id] = agent

    def get(self, agent_id: str) -> AgentProfile:
        """Return the agent of this id; raises :class:`UnknownAgent`."""
        agent = self._agents.get(agent_id)
        if agent is None:
            raise UnknownAgent(
                f"there is no agent {agent_id!r}; there are {', '.join(self._agents)}"
            )
        return agent

    def agents_for(self, capability: str) -> tuple[AgentProfile, ...]:
        """Return the agents that have a capability; none for one that nobody has."""
        return tuple(agent for agent in self if capability in agent.capabilities)
