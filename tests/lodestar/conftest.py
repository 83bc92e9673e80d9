"""A fresh deployment, and its gate under Lodestar's client, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lodestar_runtime_client import GateClient

from support.lodestar_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A deployment of its own."""
    return World(tmp_path)


@pytest.fixture
def gate(world: World) -> Iterator[GateClient]:
    """Its gate."""
    with world.gate() as client:
        yield client


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateClient]:
    """A gate for tests that leave nothing behind but registered tools."""
    with World(tmp_path_factory.mktemp("shared")).gate() as client:
        yield client
