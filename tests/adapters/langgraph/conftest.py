"""Deployments whose gate allows, denies or holds everything, and a fresh one for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.langgraph_world import ALLOW, DENY, HOLD, World
from toolgate_client import GateClient

MakeWorld = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A deployment that holds payments, denies deletions, and allows the rest."""
    return World(
        tmp_path,
        {**ALLOW, "tools": ["*"], "unless": 'tool.name.startsWith("pay") || tool.name == "delete"'},
        {**DENY, "tools": ["delete"]},
        {**HOLD, "tools": ["pay*"]},
    )


@pytest.fixture
def gate(world: World) -> Iterator[GateClient]:
    """The fresh deployment's gate."""
    with world.gate() as gate:
        yield gate


@pytest.fixture(scope="package")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Gates for tests that leave nothing behind but tools, each with names of its own."""
    with ExitStack() as running:
        started = {}
        for name, rule in (("allow", ALLOW), ("deny", DENY), ("hold", HOLD)):
            world = World(tmp_path_factory.mktemp(name), rule)
            started[name] = running.enter_context(world.gate())
        yield started


@pytest.fixture
def allowing(gates: dict[str, Any]) -> GateClient:
    """A gate that allows every call."""
    gate: GateClient = gates["allow"]
    return gate


@pytest.fixture
def denying(gates: dict[str, Any]) -> GateClient:
    """A gate that denies every call."""
    gate: GateClient = gates["deny"]
    return gate


@pytest.fixture
def holding(gates: dict[str, Any]) -> GateClient:
    """A gate that holds every call."""
    gate: GateClient = gates["hold"]
    return gate
