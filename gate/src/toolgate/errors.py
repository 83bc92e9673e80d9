"""The gate's one exception tree: every error a user can meet is a :class:`ToolgateError`."""

from __future__ import annotations

from collections.abc import Sequence


class ToolgateError(Exception):
    """Root of every error this package raises on purpose; ``str()`` of it is fit for people."""


class _Problems(ToolgateError):
    """An error that lists everything wrong with one document at once."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        """``source`` names the document; ``problems`` are complete sentences, at least one."""
        self.source = source
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source}:\n{lines}")


class ConfigError(_Problems):
    """The config file cannot be used; nothing was started."""


class PolicyError(_Problems):
    """The policy document cannot be used; nothing may run under it."""


class JSONError(ToolgateError):
    """A text is not acceptable JSON (syntax, duplicate key, non-finite number, depth)."""


class SchemaError(ToolgateError):
    """A tool's JSON Schema is itself not valid, or refers to something outside itself."""


class JournalError(ToolgateError):
    """Root of the journal's errors."""


class JournalUnavailable(JournalError):
    """The store cannot be read or written now (full disk, lock held too long, read-only file)."""


class Unanchored(JournalUnavailable):
    """Nothing new may begin, because it could be forgotten: the anchor is not written."""


class AnchorDamaged(JournalError):
    """The file where the journal's anchor should be is none, or cannot be read as one."""


class JournalTampered(JournalError):
    """A stored row does not verify under the journal key; nothing was done on its word."""


class JournalKeyError(JournalError):
    """The journal key is missing, unreadable, too open, or not this journal's."""


class ApprovalError(ToolgateError):
    """A key, an envelope or a resolution cannot be used; the message says why."""
