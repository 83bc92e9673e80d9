"""What approvers' commands have put into an SQLite journal, each beside what it answers.

Whoever can write the store can put anything there, so the rules of reading are:

1. an envelope that is not bytes, or is larger than any that is read, and a time that is no number,
   are ``None`` and never loaded: they are refused once, like everything that does not count;
2. of one hold at most :data:`MAX_APPROVALS` envelopes are looked at, and :data:`MAX_BYTES` of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from toolgate import faults
from toolgate.journal.connection import Connection
from toolgate.journal.database import READING, WRITING
from toolgate.journal.records import ApprovalRow
from toolgate.signatures.dsse import MAX_ENVELOPE_BYTES

LARGEST_SEQ: Final = 1 << 62
MAX_APPROVALS: Final = 1000
"""At most so many answers to one hold are looked at: nobody can make a resume slow with more."""
MAX_BYTES: Final = 32 * MAX_ENVELOPE_BYTES
"""Nor are more bytes of them: nobody can make the gate fill its memory."""
_GENUINE_SEQ: Final = f"seq BETWEEN 1 AND {LARGEST_SEQ}"
"""Places that the journal itself gives: others were written by somebody else."""
_PAGE: Final = 1000
"""Approvals that are read at once, of however many have arrived."""
_LONGEST_NAME: Final = 1000
"""Characters of the longest name of what is answered that is read."""


class Envelopes(Connection):
    """The envelopes of one journal."""

    def add_approval(self, hold: str, envelope: bytes, at: int, *, pending: bool = False) -> bool:
        """Put an approver's envelope beside its hold, durably, in a transaction of its own.

        With ``pending``, only while the hold's row says so: in one step with the look at it, so
        nothing comes after what ends the hold. Returns whether it was put there.
        """
        asked = "EXISTS (SELECT 1 FROM hold WHERE hold_id = ? AND status = 'pending')"
        with WRITING:
            faults.fail_store()
            self._run("PRAGMA busy_timeout = 5000")
            self._run("PRAGMA synchronous = FULL")
            added = self._run(
                "INSERT INTO approval (seq, hold, envelope, at)"
                " SELECT (SELECT ifnull(max(seq), 0) + 1 FROM approval"
                f" WHERE {_GENUINE_SEQ}), ?, ?, ?{f' WHERE {asked}' if pending else ''}",
                (hold, envelope, at, hold) if pending else (hold, envelope, at),
            )
        return added.rowcount == 1

    def forget_approvals(self, hold: str, but: Collection[int]) -> None:
        """Put nothing in the place of each envelope of a hold, but for those of these numbers."""
        with WRITING:
            self._run(
                "UPDATE approval SET envelope = x'' WHERE hold = ?"
                " AND seq NOT IN (SELECT value FROM json_each(?))",
                (hold, json.dumps(list(but))),
            )

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold, in order of arrival, by the rules above."""
        sql = (
            "SELECT seq, hold, CASE WHEN typeof(envelope) = 'blob' AND length(envelope) <= ?"
            " THEN envelope END, CASE WHEN typeof(at) = 'integer' THEN at END"
            f" FROM approval WHERE hold = ? AND {_GENUINE_SEQ} ORDER BY seq LIMIT ?"
        )
        rows: list[ApprovalRow] = []
        left = MAX_BYTES
        with READING:
            for row in self._run(sql, (MAX_ENVELOPE_BYTES, hold, MAX_APPROVALS)):
                left -= len(row[2] or b"")
                if left < 0:
                    break
                rows.append(ApprovalRow(*row))
        return rows

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""
        with READING:
            sql = f"SELECT ifnull(max(seq), 0) FROM approval WHERE {_GENUINE_SEQ}"
            return int(self._run(sql).fetchone()[0])

    def approvals_after(self, seq: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of the next approvals received after the number ``seq``.

        They are in order, and may be fewer than there are; none: there are no more. Where no hold
        can be named so there is an empty text.
        """
        sql = (
            "SELECT seq, CASE WHEN typeof(hold) = 'text' AND length(hold) <= ? THEN hold ELSE ''"
            f" END FROM approval WHERE seq > ? AND {_GENUINE_SEQ} ORDER BY seq LIMIT ?"
        )
        with READING:
            return self._run(sql, (_LONGEST_NAME, seq, _PAGE)).fetchall()
