"""What the package promises: its names, its types, and that importing it costs next to nothing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import toolgate_client
from support.client_gates import CLIENT_SOURCE


def isolated(code: str) -> str:
    """Run ``code`` in an interpreter that sees the standard library and the client alone."""
    start = f"import sys; sys.path.insert(0, {str(CLIENT_SOURCE)!r}); "
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", start + code]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def test_all_is_exactly_what_is_public() -> None:
    public = {
        name
        for name in dir(toolgate_client)
        if not name.startswith("_") and not isinstance(getattr(toolgate_client, name), ModuleType)
    }
    assert set(toolgate_client.__all__) == public | {"__version__"}


def test_all_is_sorted() -> None:
    assert toolgate_client.__all__ == sorted(toolgate_client.__all__)


def test_every_public_name_presents_itself_as_the_packages_own() -> None:
    for name in toolgate_client.__all__:
        if name != "__version__":
            assert getattr(toolgate_client, name).__module__ == "toolgate_client"


def test_the_fields_types_can_be_resolved() -> None:
    hints = get_type_hints(toolgate_client.Outcome)
    assert hints["hold"] == toolgate_client.Hold | None
    assert hints["proposal"] == toolgate_client.ProposalResult | None
    for name in toolgate_client.__all__:
        value = getattr(toolgate_client, name)
        if dataclasses.is_dataclass(value):
            assert get_type_hints(value).keys() == {each.name for each in dataclasses.fields(value)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = toolgate_client.Nothing


def test_every_public_name_is_documented() -> None:
    for name in toolgate_client.__all__:
        if name != "__version__":
            assert getattr(toolgate_client, name).__doc__


def test_every_exception_is_a_gate_error() -> None:
    for name in toolgate_client.__all__:
        value = getattr(toolgate_client, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            assert issubclass(value, toolgate_client.GateError)


def test_types_are_shipped() -> None:
    assert files("toolgate_client").joinpath("py.typed").is_file()


def test_it_imports_nothing_but_the_standard_library() -> None:
    code = "import toolgate_client, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(isolated(code))}
    foreign = loaded - set(sys.stdlib_module_names) - {"__main__", "toolgate_client"}
    assert not {name for name in foreign if not name.startswith("__editable__")}


@pytest.mark.parametrize(
    "module",
    ["asyncio", "dataclasses", "inspect", "logging", "socket", "subprocess", "tempfile", "typing"],
)
def test_importing_it_leaves_slow_modules_alone(module: str) -> None:
    assert isolated(f"import toolgate_client; print({module!r} in sys.modules)") == "False"


def test_importing_it_installs_no_signal_handler_and_starts_no_thread() -> None:
    code = (
        "import signal; before = [signal.getsignal(n) for n in signal.valid_signals()]; "
        "import toolgate_client, threading; "
        "print(before == [signal.getsignal(n) for n in signal.valid_signals()], "
        "threading.active_count())"
    )
    assert isolated(code) == "True 1"


def test_it_can_be_imported_where_gates_cannot_be_started() -> None:
    # As far as that can be tried without such a system: none of the POSIX-only names is there.
    code = (
        "import os, select, signal; "
        "[delattr(m, n) for m, n in [(os, 'register_at_fork'), (os, 'fork'), (os, 'killpg'), "
        "(select, 'poll'), (select, 'POLLIN'), (select, 'POLLOUT'), (signal, 'SIGKILL')]]; "
        "os.name = 'nt'; import toolgate_client\n"
        "try: toolgate_client.GateClient('x', launcher=['gate']).start()\n"
        "except toolgate_client.GateStartError as error: print(error)"
    )
    assert "POSIX" in isolated(code)


def test_no_source_file_is_beyond_a_readers_patience() -> None:
    for path in Path(toolgate_client.__file__ or "").parent.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path.name
