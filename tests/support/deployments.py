"""The deployments of `configs/`, as their operators would load them, and as gates for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.driver import Driver
from support.example_runs import CONFIGS
from support.people import Person
from toolgate.policy.documents import read_document


@dataclass(frozen=True)
class Deployment:
    """One folder of `configs/`, and who approves in it."""

    name: str
    approvers: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return CONFIGS / self.name

    @property
    def config(self) -> Path:
        """Its config."""
        return self.folder / "gate.yaml"

    @property
    def policy(self) -> Path:
        """Its policy document."""
        return self.folder / "policy.yaml"

    @property
    def cases(self) -> Path:
        """The tests of its policy."""
        return self.folder / "cases.yaml"

    def environment(self, people: dict[str, Person]) -> dict[str, str]:
        """Return the variables its config needs."""
        return {f"{n.upper()}_KEY": people[n].pinned["public_key"] for n in self.approvers}

    def gate(self, folder: Path, people: dict[str, Person], **changes: Any) -> Driver:
        """Return a gate with this config, which keeps its journal in ``folder``."""
        config = read_document(self.config).value
        assert isinstance(config, dict)
        config["policy"]["file"] = str(self.policy)
        config["approvals"]["approvers"] = [people[name].pinned for name in self.approvers]
        return Driver(folder, {**config, **changes})


SUPPORT = Deployment("support", ("alice", "bob", "carol"))
CODING_AGENT = Deployment("coding-agent", ("alice", "bob", "carol"))
DATA_ANALYST = Deployment("data-analyst", ("dana", "erin", "frank"))
DEPLOYMENTS = (SUPPORT, CODING_AGENT, DATA_ANALYST)
