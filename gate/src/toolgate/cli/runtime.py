"""``toolgate runtime gate``: the sidecar for the clients of Lodestar's runtime gate."""

from __future__ import annotations

from pathlib import Path

from toolgate import sourcefile
from toolgate.cli.serve import CANNOT_START, serve
from toolgate.config import GateConfig, SqliteJournal
from toolgate.notices import log
from toolgate.wire.lodestar import Lodestar

_THEIRS = frozenset({"project_id", "actor_id", "log_root", "tool_defaults"})
"""Keys that their gate's config has, and Toolgate's has not."""


def gate(config: str) -> int:
    """Serve one client on stdin and stdout, and return the exit code, as ``toolgate serve`` does.

    The config is Toolgate's own; who gives it theirs is told what to do about it.
    """
    code = serve(config, lambda loaded: Lodestar(_log_root(loaded)))
    if code == CANNOT_START and _is_theirs(config):
        log("this is a config of Lodestar's own gate; what to write is in docs/guides/lodestar.md")
    return code


def _log_root(config: GateConfig) -> str:
    journal = config.journal
    return str(journal.path.parent) if isinstance(journal, SqliteJournal) else "memory:"


def _is_theirs(config: str) -> bool:
    try:
        value = sourcefile.read(Path(config)).value
    except sourcefile.UnreadableSource:
        return False
    return isinstance(value, dict) and not _THEIRS.isdisjoint(value)
