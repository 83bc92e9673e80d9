"""Deadlines: each attempt expires once, at its own time, whatever the others do."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from toolgate.kernel.running import Attempt, Deadlines, Running

LONG = 3600.0


def attempt(timeout: float = LONG) -> Attempt:
    claim = cast("Any", type("Claim", (), {"timeout": timeout})())
    return Attempt(claim, lambda claim, reply: None)


class Alarm:
    """Collects the attempts that expired."""

    def __init__(self) -> None:
        self.rang: asyncio.Queue[Attempt] = asyncio.Queue()
        self.deadlines = Deadlines(self.rang.put_nowait)
        self.start = asyncio.get_running_loop().time()

    def set(self, attempt: Attempt, seconds: float) -> None:
        self.deadlines.set(attempt, self.start + seconds)


async def test_earlier_deadline_rings_first_though_it_was_set_later() -> None:
    alarm, late, early = Alarm(), attempt(), attempt()
    alarm.set(late, 0.03)
    alarm.set(early, 0.01)
    assert [await alarm.rang.get(), await alarm.rang.get()] == [early, late]
    assert asyncio.get_running_loop().time() >= alarm.start + 0.03 - 0.001


async def test_later_deadline_rings_though_the_earlier_one_was_cleared() -> None:
    alarm, gone, kept = Alarm(), attempt(), attempt()
    alarm.set(gone, 0.01)
    alarm.set(kept, 0.03)
    assert alarm.deadlines.clear(gone) == alarm.start + 0.01
    assert await alarm.rang.get() is kept
    assert alarm.rang.empty()


async def test_attempt_expires_once_and_then_has_no_time_to_clear() -> None:
    alarm, one, other = Alarm(), attempt(), attempt()
    alarm.set(one, 0.0)
    alarm.set(other, 0.02)
    assert await alarm.rang.get() is one
    assert alarm.deadlines.clear(one) is None
    assert await alarm.rang.get() is other
    assert alarm.rang.empty()


async def test_attempt_expires_though_the_expiry_of_another_fails() -> None:
    loop, rang = asyncio.get_running_loop(), asyncio.Queue[Attempt]()
    failures: asyncio.Queue[Any] = asyncio.Queue()
    loop.set_exception_handler(lambda _, context: failures.put_nowait(context["exception"]))
    bad, good = attempt(), attempt()

    def expire(attempt: Attempt) -> None:
        if attempt is bad:
            raise OSError("no client to tell")
        rang.put_nowait(attempt)

    deadlines = Deadlines(expire)
    deadlines.set(bad, loop.time())
    deadlines.set(good, loop.time() + 0.01)
    assert await rang.get() is good
    assert isinstance(await failures.get(), OSError)


async def test_nothing_rings_after_the_end() -> None:
    alarm, stopped, later = Alarm(), attempt(), attempt()
    alarm.set(stopped, 0.01)
    alarm.deadlines.stop()
    alarm.set(later, 0.03)
    assert await alarm.rang.get() is later
    assert alarm.rang.empty()


async def test_time_of_a_paused_body_stands_still_until_every_pause_is_taken_back() -> None:
    alarm, waiting, other = Alarm(), attempt(0.02), attempt()
    running = Running(None, alarm.deadlines)
    running.begin(waiting)
    running.pause()
    running.pause()
    alarm.set(other, 0.05)
    assert await alarm.rang.get() is other
    running.go_on()
    assert alarm.deadlines.clear(waiting) is None
    running.go_on()
    assert await alarm.rang.get() is waiting


async def test_expired_body_is_not_given_its_time_again_by_a_pause() -> None:
    alarm, expired, other = Alarm(), attempt(0.0), attempt()
    running = Running(None, alarm.deadlines)
    running.begin(expired)
    assert await alarm.rang.get() is expired
    running.pause()
    running.go_on()
    alarm.set(other, 0.02)
    assert await alarm.rang.get() is other


async def test_body_that_ended_does_not_expire() -> None:
    alarm, ended, other = Alarm(), attempt(0.01), attempt()
    running = Running(None, alarm.deadlines)
    running.begin(ended)
    running.end()
    alarm.set(other, 0.03)
    assert await alarm.rang.get() is other
