"""The journal's events as they come: one subscription, followed by a thread or by tasks.

The gate tells so many events (:data:`WINDOW`) for one request; then the next request goes on from
there. So no more than these wait here for somebody who is slow, and nothing is lost: what has not
been asked for stays in the journal. Whoever waits for an event reads for everybody, as every caller
does; whoever does not wait keeps nobody from anything.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from threading import get_ident

from toolgate_client import _requests
from toolgate_client._answers import event_from_wire
from toolgate_client._errors import GateClosed, GateError, ProtocolError
from toolgate_client._exchange import Waiter
from toolgate_client._mailbox import Mailbox
from toolgate_client._port import Port, TaskWaiter, port_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from toolgate_client._gate import Gate
    from toolgate_client._models import Event

WINDOW = 256
"""Events that one request asks for; the gate ends it sooner when they are large."""


class Subscription:
    """This session's events as they come: ``for event in …``, or ``async for event in …``.

    Made by :meth:`GateClient.subscribe`. It ends with :meth:`close`, and when the client is closed,
    after the last events; when the gate dies, :class:`GateClosed` is raised. One thread or task at
    a time may wait for the next event; any may close. A loop may be left and entered again: nothing
    is lost in between. Leaving a ``with`` or ``async with`` block closes it.
    """

    def __init__(self, gate: Gate, after: int | None, uid: str | None) -> None:
        self._gate = gate
        self._uid = uid
        self._after = after
        self._closed = False
        self._turns: dict[str, object] = {}
        """Who waits for the ``next`` event, if anybody does."""
        self._feed: _Feed
        self._asked = False
        self._ask()

    def close(self) -> None:
        """End it: nobody is told anything any more. From any thread; again, it does nothing."""
        self._closed = True
        if os.getpid() == self._gate.process.owner:
            who = get_ident()
            if self._turns.setdefault("next", who) == who:
                self._leave(who)
            else:
                # Somebody waits, and perhaps reads: the gate's answer wakes it for certain.
                self._gate.core.cancel(self._feed)
                self._feed.wake()
                self._send()

    # --- threads

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Event:
        who = get_ident()
        try:
            try:
                self._enter(who)
                while (event := self._step()) is None:
                    self._wait()
            except _Over:
                raise StopIteration from None
            finally:
                self._leave(who)
        finally:
            self._leave(who)  # interrupted on its way out
        return event

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self) -> None:
        gate, listener = self._gate, _Listener(self._feed)
        try:
            try:
                if not self._closed:
                    gate.exchange.wait(listener)
            finally:
                gate.exchange.leave(listener)
        finally:
            if not listener.gone:  # interrupted on its way out
                gate.exchange.leave(listener)
        if gate.core.notices:
            gate.log()

    # --- tasks

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        from asyncio import current_task

        who = current_task()
        try:
            try:
                self._enter(who)
                while (event := self._step()) is None:
                    await self._await()
            except _Over:
                raise StopAsyncIteration from None
            finally:
                self._leave(who)
        finally:
            self._leave(who)
        return event

    async def aclose(self) -> None:
        """As :meth:`close`, which never waits."""
        self.close()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _await(self) -> None:
        gate, port = self._gate, port_of(self._gate.exchange)
        listener = _TaskListener(port, self._feed)
        try:
            try:
                if not self._closed:
                    port.enter(listener)
                    port.send(listener)
                    await listener.wait()
            finally:
                port.leave(listener)
        finally:
            if not listener.gone:  # interrupted on its way out
                port.leave(listener)
        if gate.core.notices:
            gate.log()

    # --- both

    def _step(self) -> Event | None:
        """Return the next event, or ``None`` when it has to be waited for; raises :class:`_Over`.

        And :class:`GateClosed` or :class:`ProtocolError`, when the gate has died or refuses.
        """
        feed, gate = self._feed, self._gate
        if self._closed:
            raise _Over
        # The answer comes after the events: looked at in this order, none is overlooked.
        ended, answered = gate.core.ended, feed.response is not None
        while feed.events:
            event = self._read(feed.events.popleft())
            # An interrupt may have had one delivered twice.
            if self._after is None or event.seq > self._after:
                self._after = event.seq
                return event
        if (answered or ended) and gate.closing:
            raise _Over
        if answered:
            result, ran = gate.result(feed)
            after = _requests.read(*feed.asked, result, ran)
            self._after = max(self._after or 0, after)
        elif ended:
            raise gate.closed_error()
        if answered or not self._asked:
            gate.core.leave(feed)
            try:
                self._ask()
            except GateClosed:
                if gate.closing:
                    raise _Over from None
                raise
        return None

    def _ask(self) -> None:
        """Ask for the next events."""
        gate = self._gate
        gate.check_usable()
        self._asked = False  # until it is: an interrupt may come
        self._feed = feed = _Feed(_requests.subscribe(self._after, WINDOW, self._uid))
        request = feed.asked[0]
        gate.core.request(feed, request.method, request.params, request.what)
        self._asked = True
        self._send()

    def _send(self) -> None:
        """Write what can be written now. What cannot is written by whoever waits next."""
        feed, exchange = self._feed, self._gate.exchange
        try:
            exchange.send(feed)
        finally:
            exchange.give_back(feed)

    def _read(self, raw: Any) -> Event:
        try:
            return event_from_wire(raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"the gate has sent an event that is none: {error!r}") from error

    def _enter(self, who: object) -> None:
        """Take the turn: ``who`` is a task, or a thread's number, that had it perhaps before."""
        if os.getpid() != self._gate.process.owner:
            self._gate.check_usable()  # which says so
        has = self._turns.setdefault("next", who)
        if has != who:
            if not getattr(has, "done", bool)():
                raise GateError("another thread or task waits for this subscription's next event")
            self._turns["next"] = who  # a task that was interrupted

    def _leave(self, who: object) -> None:
        """Give the turn back, if ``who`` has it; if it was closed meanwhile, the gate is told."""
        if self._turns.get("next") == who:
            del self._turns["next"]
        # Whoever has closed it meanwhile has seen that turn, and left this to us.
        if self._closed and not self._feed.gone and not self._turns:
            self._gate.core.leave(self._feed)
            self._send()
            self._feed.gone = True

    def __del__(self) -> None:
        # One that was just dropped: the gate need not go on. From any thread.
        feed = self.__dict__.get("_feed")
        if feed is not None and not feed.gone and os.getpid() == self._gate.process.owner:
            self._closed = True
            with suppress(OSError):
                self._gate.core.leave(feed)
                self._send()


class _Over(Exception):
    """There are no further events."""


class _Feed(Mailbox):
    """What has come for one request of a subscription."""

    __slots__ = ("asked", "events", "listener")

    def __init__(self, asked: _requests.Asked[int]) -> None:
        super().__init__()
        self.asked = asked
        self.events: deque[Any] = deque()
        self.listener: Mailbox | None = None
        """Who waits for it: there may be none."""

    def has_news(self) -> bool:
        """Whether there is an event, or the answer."""
        return bool(self.events) or self.response is not None

    def tell(self, event: Any) -> None:
        """An event has come."""
        self.events.append(event)

    def wake(self) -> None:
        """Wake who waits, if anybody does."""
        listener = self.listener
        if listener is not None:
            listener.wake()


class _Listener(Waiter):
    """The mailbox of a thread that waits for a feed."""

    __slots__ = ("_feed",)

    def __init__(self, feed: _Feed) -> None:
        super().__init__()
        self._feed = feed
        feed.listener = self

    def has_news(self) -> bool:
        """Whether the feed has."""
        return self._feed.has_news()


class _TaskListener(TaskWaiter):
    """The mailbox of a task that waits for a feed."""

    def __init__(self, port: Port, feed: _Feed) -> None:
        super().__init__()
        self.port = port
        self._feed = feed
        feed.listener = self

    def has_news(self) -> bool:
        """Whether the feed has."""
        return self._feed.has_news()


Subscription.__module__ = "toolgate_client"
