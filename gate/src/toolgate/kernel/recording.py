"""Records how bodies ended. They ran: while the journal cannot be written, it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from toolgate import faults
from toolgate.errors import JournalTampered, JournalUnavailable, ToolgateError
from toolgate.ir import Outcome
from toolgate.journal.journal import Journal, RecordChanged
from toolgate.kernel.allowance import Usage
from toolgate.kernel.result import Ending, ToolReply, concluded, ending, unrecordable
from toolgate.kernel.step import Claim
from toolgate.kernel.steps import Steps

RECORD_RETRIES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between the tries to record the end of a body that ran, before its caller is told."""
RECORD_AGAIN: Final = 2.0
"""Seconds between further tries, for as long as the gate lives."""


class Unrecorded(JournalUnavailable):
    """The body ran, and how it ended could not be recorded; ``uid`` names the action."""

    def __init__(self, uid: str, cause: Exception) -> None:
        """``cause`` is why the journal could not be written."""
        self.uid = uid
        super().__init__(
            f"the tool of action {uid} ran, but how it ended could not be recorded: {cause}. It is "
            "not run again; the gate goes on trying to record it"
        )


class Recorder:
    """Records the ends of one gate's bodies."""

    def __init__(self, journal: Journal, steps: Steps) -> None:
        """``steps`` say what is written."""
        self._journal = journal
        self._steps = steps
        self.under_way: set[asyncio.Task[None]] = set()
        """What is still tried, or settled, in the background."""
        self._ending = asyncio.Event()

    async def record(
        self, claim: Claim, end: Ending, duration_ms: float, usage: Usage | None
    ) -> Outcome:
        """Record how a body ended. It ran: while the journal cannot be written, it is tried again.

        Raises :class:`Unrecorded` when that took too long; the tries go on in the background.
        """
        for pause in (*RECORD_RETRIES, None):
            try:
                outcome = await self._record_once(claim, end, duration_ms, usage)
                faults.hit("end.committed")
                return outcome
            except JournalUnavailable as error:
                if pause is None:
                    self._in_background(self._record_some_day(claim, end, duration_ms))
                    raise Unrecorded(claim.record.uid, error) from error
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _record_once(
        self, claim: Claim, end: Ending, took: float, usage: Usage | None
    ) -> Outcome:
        """Record an end once; one that cannot be written as it is ends as an internal error.

        Its body ran: an action that nobody can end would be executing while the gate lives.
        """
        try:
            return await self._record_as_it_is(claim, end, took, usage)
        except JournalUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the action has to end
            failed = concluded(claim.call.action, unrecordable(claim.tool, error))
            tampered = error if isinstance(error, JournalTampered) else None
            return await self._journal.transact(
                lambda tx: self._steps.fail(tx, claim, failed, took, tampered)
            )

    async def _record_as_it_is(
        self, claim: Claim, end: Ending, took: float, usage: Usage | None
    ) -> Outcome:
        try:
            return await self._journal.transact(
                lambda tx: self._steps.end(tx, claim, end, took, usage)
            )
        except RecordChanged:
            # Another gate took this one for dead and put the action in doubt: this settles it.
            return await self._journal.transact(lambda tx: self._steps.settle(tx, claim, end, took))

    async def finish(self, seconds: float) -> None:
        """Try once more what could not be recorded, for up to ``seconds``: the gate ends."""
        self._ending.set()
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=seconds)

    async def _record_some_day(self, claim: Claim, end: Ending, duration_ms: float) -> None:
        last = False
        while not last:
            with suppress(TimeoutError):
                last = await asyncio.wait_for(self._ending.wait(), RECORD_AGAIN)
            try:
                await self._record_once(claim, end, duration_ms, None)
            except JournalUnavailable:
                continue
            return

    def settle_late(self, claim: Claim, reply: ToolReply) -> None:
        """Settle an action in doubt whose body has ended after all."""

        async def settle() -> None:
            end = concluded(claim.call.action, ending(claim.tool, reply, claim.call.redaction))
            try:
                await self._journal.transact(lambda tx: self._steps.settle(tx, claim, end, None))
            except ToolgateError:
                # It stays in doubt, as its caller was told.
                return

        self._in_background(settle())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
