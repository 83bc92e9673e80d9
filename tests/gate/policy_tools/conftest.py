"""How the tests of the author's tools run the command, and what they run it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from toolgate.cli.app import app


class Told:
    """What a command printed, and how it ended."""

    def __init__(self, result: Any) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        crashed = result.exception is not None and not isinstance(result.exception, SystemExit)
        assert not crashed, repr(result.exception)

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)


class Author:
    """Somebody who writes policies, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, **env: str) -> Told:
        runner = CliRunner(env={"COLUMNS": "200", "TOOLGATE_CONFIG": None, **env})
        return Told(runner.invoke(app, [str(word) for word in arguments]))

    def write(self, name: str, content: object) -> Path:
        """Write a file: text as it is, anything else as YAML."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text)
        return path


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    """An author who sits in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Author(tmp_path)


MAIL: dict[str, Any] = {
    "version": 1,
    "id": "acme",
    "rules": [
        {"id": "reads", "tools": ["search_*"], "effect": "allow"},
        {"id": "mail", "tools": ["send_email"], "effect": "allow"},
        {
            "id": "mail-outside",
            "tools": ["send_email"],
            "unless": 'args.to.all(a, a.endsWith("@" + vars.domain))',
            "effect": "hold",
            "reason": "mail to outsiders is read by a person first",
            "approval": {"approvers": ["alice", "bob"], "quorum": 2},
        },
        {
            "id": "tests-first",
            "tools": ["deploy"],
            "unless": "state.tests_passed == true",
            "effect": "deny",
        },
    ],
}
"""A policy document."""

GATE: dict[str, Any] = {
    "project": "acme",
    "state": {"tests_passed": False},
    "tools": {
        "send_email": {
            "level": 3,
            "labels": ["egress"],
            "parameters": {"required": ["to"], "properties": {"to": {"type": "array"}}},
        },
        "search_web": {"level": 1},
        "deploy": {"level": 4},
    },
    "policy": {"file": "policy.yaml", "vars": {"domain": "acme.example"}},
    "approvals": {
        "approvers": [
            {"id": "alice", "public_key": "${ALICE}"},
            {"id": "bob", "public_key": "key of bob"},
        ]
    },
}
"""The config of the deployment it is for."""


@pytest.fixture
def deployed(author: Author) -> Author:
    """The same author, beside a deployment: ``gate.yaml`` and its ``policy.yaml``."""
    author.write("gate.yaml", GATE)
    author.write("policy.yaml", MAIL)
    return author


@pytest.fixture
def mail() -> Callable[..., dict[str, Any]]:
    """Make the mail document with other rules added."""
    return lambda *rules: {**MAIL, "rules": [*MAIL["rules"], *rules]}
