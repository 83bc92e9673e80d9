"""Finding a gate to start, and turning a mapping into its config file."""

from __future__ import annotations

import json
import os
import stat
import sys
import sysconfig
import tempfile
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path
from typing import Any

import pytest

from support.client_gates import LAUNCHER
from toolgate_client import GateClient, GateStartError
from toolgate_client._launch import command_line, find_launcher, write_config


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with the standard library and without any gate."""
    monkeypatch.setattr(sys, "path", [sysconfig.get_path("stdlib")])
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter, FrozenImporter, PathFinder])
    monkeypatch.delitem(sys.modules, "toolgate", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


def written(config: dict[str, Any], folder: Path) -> Any:
    path = Path(write_config(config, str(folder)))
    try:
        return json.loads(path.read_bytes())
    finally:
        path.unlink()


class TestLauncher:
    def test_the_interpreters_own_gate_comes_first(
        self, elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "toolgate").mkdir()
        (tmp_path / "toolgate" / "__init__.py").touch()
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        # -P: no module of the current folder becomes a part of the gate.
        options = ["-P"] if sys.version_info >= (3, 11) else []
        assert find_launcher() == [sys.executable, *options, "-m", "toolgate"]

    def test_a_folder_of_that_name_is_not_a_gate(
        self, elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "toolgate").mkdir()
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        with pytest.raises(GateStartError):
            find_launcher()

    def test_else_the_program_on_the_path_is_used(
        self, elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "toolgate"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_launcher() == [str(program)]

    def test_without_a_gate_the_error_says_how_to_get_one(self, elsewhere: None) -> None:
        with pytest.raises(GateStartError, match=r"pip install ./gate.*launcher="):
            GateClient("gate.yaml").start()

    def test_a_given_launcher_is_used_as_it_is(self) -> None:
        command = command_line(("uvx", "toolgate"), "gate.yaml")
        assert command == ["uvx", "toolgate", "serve", "--config", "gate.yaml"]

    def test_a_launcher_is_words_not_a_text(self) -> None:
        with pytest.raises(TypeError, match="sequence of words"):
            GateClient("gate.yaml", launcher="uvx toolgate")

    def test_a_launcher_that_does_not_exist_is_a_start_error(self) -> None:
        with pytest.raises(GateStartError, match="/no/such/program"):
            GateClient("gate.yaml", launcher=["/no/such/program"]).start()


class TestConfig:
    def test_relative_paths_of_a_mapping_start_at_the_current_folder(self, tmp_path: Path) -> None:
        config = {
            "project": "p",
            "journal": "sqlite:///data/journal.db",
            "journal_key": "file:journal.key",
            "policy": {"file": "policies/acme.yaml", "allow_up_to": 2},
        }
        assert written(config, tmp_path) == {
            "project": "p",
            "journal": f"sqlite:///{tmp_path}/data/journal.db",
            "journal_key": f"file:{tmp_path}/journal.key",
            "policy": {"file": f"{tmp_path}/policies/acme.yaml", "allow_up_to": 2},
        }
        assert config["policy"] == {"file": "policies/acme.yaml", "allow_up_to": 2}

    def test_defaults_beside_the_config_are_in_the_current_folder_too(self, tmp_path: Path) -> None:
        assert written({"project": "p"}, tmp_path) == {
            "project": "p",
            "journal": f"sqlite:///{tmp_path}/.toolgate/journal.db",
            "journal_key": f"file:{tmp_path}/.toolgate/journal.key",
        }

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("journal", "sqlite:////var/journal.db"),
            ("journal", "memory:"),
            ("journal", "postgresql://host/db"),
            ("journal", "sqlite:///"),
            ("journal", "sqlite:///:memory:"),
            ("journal", 7),
            ("journal_key", "file:/var/journal.key"),
            ("journal_key", "env:KEY"),
            ("policy", {"file": "/etc/policy.yaml"}),
            ("policy", {"rules": []}),
            ("policy", None),
        ],
    )
    def test_what_is_no_relative_path_stays_as_it_is(
        self, tmp_path: Path, key: str, value: Any
    ) -> None:
        assert written({key: value}, tmp_path)[key] == value

    def test_a_variable_decides_whether_the_path_is_relative(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ROOT", "/var/lib")
        monkeypatch.setenv("NAME", "acme")
        config = {"journal": "sqlite:///${ROOT}/j.db", "journal_key": "file:${NAME}.key"}
        assert written(config, tmp_path) == {
            "journal": "sqlite:///${ROOT}/j.db",
            "journal_key": f"file:{tmp_path}/${{NAME}}.key",
        }
        literal = written({"journal": "sqlite:///$${ROOT}/j.db"}, tmp_path)
        assert literal["journal"] == f"sqlite:///{tmp_path}/$${{ROOT}}/j.db"

    def test_a_folder_named_like_a_variable_is_that_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "${HOME}"
        assert written({"journal": "sqlite:///j.db"}, folder)["journal"] == (
            f"sqlite:///{tmp_path}/$${{HOME}}/j.db"
        )

    def test_path_objects_are_taken_as_text(self, tmp_path: Path) -> None:
        config = {"policy": {"file": tmp_path / "p.yaml"}, "x": [Path("a")]}
        content = written(config, tmp_path)
        assert content["policy"] == {"file": f"{tmp_path}/p.yaml"}
        assert content["x"] == ["a"]

    def test_a_mapping_that_is_not_json_starts_nothing(self) -> None:
        with pytest.raises(TypeError, match="the gate's config"):
            GateClient({"project": object()}, launcher=LAUNCHER).start()

    def test_the_file_is_private_and_gone_after_close(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with GateClient({"project": "p"}, launcher=LAUNCHER) as gate:
            (file,) = tmp_path.iterdir()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert gate.project == "p"
        assert not list(tmp_path.iterdir())

    def test_the_file_is_gone_after_a_failed_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(GateStartError):
            GateClient({"fake": {"start": "fail"}}, launcher=LAUNCHER).start()
        with pytest.raises(GateStartError):
            GateClient({}, launcher=["/no/such/program"]).start()
        assert not list(tmp_path.iterdir())

    def test_a_config_file_is_used_where_it_is(self, tmp_path: Path) -> None:
        file = tmp_path / "gate.json"
        file.write_text('{"project": "from the file"}')
        with GateClient(file, launcher=LAUNCHER) as gate:
            assert gate.project == "from the file"
        with GateClient(os.fspath(file), launcher=LAUNCHER) as gate:
            assert gate.project == "from the file"
        assert file.exists()


def test_the_filled_in_defaults_are_the_gates_own() -> None:
    config = pytest.importorskip("toolgate.config")
    from toolgate_client._launch import _DEFAULT_PATHS

    fields = config.GateConfig.model_fields
    assert {key: fields[key].default for key in _DEFAULT_PATHS} == _DEFAULT_PATHS
