"""Approvers for the deployments, and a Monday at noon: their rules know office hours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.clock import Clock
from support.people import Person

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    names = ("alice", "bob", "carol", "dana", "erin", "frank")
    return {name: Person(name, Ed25519PrivateKey.generate()) for name in names}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.at = int(NOON.timestamp()) * 1_000_000
    return clock
