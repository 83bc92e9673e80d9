"""What to start: the gate's command line, and a config file for it.

A config given as a mapping is written to a private temporary file. The gate resolves relative paths
against the folder of its config file, so the paths in a mapping are made absolute first, from the
current folder: ``journal`` (``sqlite:///…``), ``journal_key`` (``file:…``) and ``policy.file``.
``journal`` and ``journal_key`` are filled in when they are absent, because the gate's defaults are
files beside its config.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from toolgate_client._encode import to_wire
from toolgate_client._errors import GateStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEFAULT_PATHS = {
    "journal": "sqlite:///.toolgate/journal.db",
    "journal_key": "file:.toolgate/journal.key",
}
_SCHEMES = ("sqlite:///", "file:")
_REFERENCE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)\}")


def find_launcher() -> list[str]:
    """The command that runs ``toolgate``: this interpreter's module, else the program on PATH.

    Raises :class:`GateStartError` when there is neither.
    """
    import importlib.util
    import shutil

    try:
        spec = importlib.util.find_spec("toolgate")
    except (ImportError, ValueError):
        spec = None
    # A folder that happens to be called toolgate is a namespace package: without an origin.
    if spec is not None and spec.origin and sys.executable:
        # -P: no module of the current folder, which agents may write to, becomes part of the gate.
        safe_path = ["-P"] if sys.version_info >= (3, 11) else []
        return [sys.executable, *safe_path, "-m", "toolgate"]
    program = shutil.which("toolgate")
    if program is not None:
        return [program]
    raise GateStartError(
        "no gate found: the package toolgate is not installed for this Python and there is no "
        "program toolgate on PATH. Install it from Toolgate's repository (pip install ./gate, "
        "or pipx install ./gate), or say how to start it: "
        'GateClient(config, launcher=["…/toolgate"])'
    )


def command_line(launcher: Sequence[str] | None, config_file: str) -> list[str]:
    """The whole command that serves ``config_file``."""
    return [*(find_launcher() if launcher is None else launcher), "serve", "--config", config_file]


def write_config(config: Mapping[str, Any], folder: str) -> str:
    """Write ``config`` to a new private file; its relative paths start at ``folder``.

    Path objects in it are taken as text. Returns the file's path. Raises ``TypeError`` or
    ``ValueError`` when the config is not JSON.
    """
    import tempfile

    text = to_wire(_absolute(_plain(config), folder), "the gate's config")
    descriptor, path = tempfile.mkstemp(prefix="toolgate-", suffix=".json")
    with open(descriptor, "wb") as file:
        file.write(text)
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _absolute(config: dict[str, Any], folder: str) -> dict[str, Any]:
    changed = {**_DEFAULT_PATHS, **config}
    for key in _DEFAULT_PATHS:
        changed[key] = _anchored(changed[key], folder)
    policy = changed.get("policy")
    if isinstance(policy, dict) and isinstance(policy.get("file"), str):
        changed["policy"] = {**policy, "file": _join(folder, policy["file"])}
    return changed


def _anchored(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        for scheme in _SCHEMES:
            if value.startswith(scheme):
                return scheme + _join(folder, value[len(scheme) :])
    return value


def _join(folder: str, path: str) -> str:
    # The gate replaces ${NAME} later, and what it stands for decides whether the path is relative;
    # $${NAME} stands for the text.
    expanded = _REFERENCE.sub(
        lambda match: match[0] if match[1] else os.environ.get(match[2], ""), path
    )
    if not path or path == ":memory:" or os.path.isabs(expanded):
        return path
    return os.path.join(folder.replace("${", "$${"), path)
