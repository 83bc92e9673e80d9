"""One side of a connection: matches requests with replies; bad input never ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from toolgate import faults
from toolgate.errors import ToolgateError
from toolgate.jsonvalue import JSONValue
from toolgate.wire.codec import JSON_RPC, Codec
from toolgate.wire.framing import LineSplitter, Oversized
from toolgate.wire.messages import (
    Dropped,
    ErrorCode,
    Invalid,
    Message,
    Notification,
    Reply,
    Request,
    RequestId,
    RPCError,
)


class Handler(Protocol):
    """Gives the messages their meaning."""

    async def handle_request(
        self, identifier: RequestId, method: str, params: dict[str, JSONValue]
    ) -> JSONValue:
        """Return the result of a request; raises :class:`RPCError` to answer with an error."""

    def handle_notification(self, method: str, params: dict[str, JSONValue]) -> None:
        """Take a notification."""

    def handle_odd_message(self, what: str) -> None:
        """Take note of a message that cannot be answered, or that was answered with an error."""

    def handle_failure(self, error: Exception) -> None:
        """Take note of a defect: a request failed with an error that is not :class:`RPCError`."""

    def handle_end(self) -> None:
        """The other side has closed the stream."""


class Peer:
    """A :class:`~toolgate.wire.transport.Receiver` that answers through ``send``."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        handler: Handler,
        limit: int,
        codec: Codec = JSON_RPC,
    ) -> None:
        """``limit`` is the largest message accepted, in bytes; ``codec`` reads and writes them."""
        self._send = send
        self._handler = handler
        self._limit = limit
        self._codec = codec
        self._splitter = LineSplitter(limit, tails=codec.ends_matter)
        self._next_id = 1
        self._asked: dict[RequestId, Callable[[Reply | None], None]] = {}
        self._serving: dict[RequestId, asyncio.Task[None]] = {}
        self._ended = False

    def request(
        self,
        method: str,
        params: dict[str, JSONValue],
        on_reply: Callable[[Reply | None], None],
    ) -> None:
        """Send a request; ``on_reply`` is called once: with the reply, or ``None`` at the end.

        After the end nobody is asked any more, and that is told at once.
        """
        if self._ended:
            asyncio.get_running_loop().call_soon(on_reply, None)
            return
        identifier = self._next_id
        self._next_id += 1
        self._asked[identifier] = on_reply
        self._send(self._codec.request(identifier, method, params))

    def notify(self, method: str, params: dict[str, JSONValue]) -> None:
        """Send a notification, where the codec has one for it."""
        line = self._codec.notification(method, params)
        if line:
            self._send(line)

    @property
    def serving(self) -> list[asyncio.Task[None]]:
        """The requests that are not answered yet."""
        return list(self._serving.values())

    def is_serving(self, identifier: RequestId) -> bool:
        """Tell whether a request of this id is not answered yet."""
        return identifier in self._serving

    def received(self, data: bytes) -> None:
        """Take bytes of the stream, and serve every message they complete."""
        for line in self._splitter.feed(data):
            if isinstance(line, Oversized):
                why = f"over the limit of {self._limit} bytes (limits.max_message_bytes)"
                received = self._codec.oversized(line, why)
            else:
                received = self._codec.read(line)
            for message in received:
                self._serve(message)

    def ended(self) -> None:
        """The stream has ended: nobody will reply any more."""
        self._ended = True
        asked, self._asked = self._asked, {}
        for on_reply in asked.values():
            on_reply(None)
        self._handler.handle_end()

    def _serve(self, message: Message) -> None:
        match message:
            case Reply(identifier):
                on_reply = self._asked.pop(identifier, None)
                if on_reply is None:
                    self._handler.handle_odd_message(
                        f"a reply to no request that waits for one (id {identifier!r})"
                    )
                else:
                    on_reply(message)
            case Request(identifier):
                if identifier in self._serving:
                    self._answer_invalid(
                        Invalid(
                            identifier,
                            RPCError(
                                ErrorCode.INVALID_REQUEST,
                                f"the id {identifier!r} is of a request that is not answered yet",
                            ),
                        )
                    )
                    return
                answering = asyncio.get_running_loop().create_task(self._answer(message))
                self._serving[identifier] = answering
            case Notification(method, params):
                self._handler.handle_notification(method, params)
            case Invalid():
                self._answer_invalid(message)
            case Dropped(why):
                self._handler.handle_odd_message(why)

    def _answer_invalid(self, message: Invalid) -> None:
        self._handler.handle_odd_message(str(message.error))
        self._send(self._codec.invalid(message))

    async def _answer(self, request: Request) -> None:
        try:
            value = await self._handler.handle_request(request.id, request.method, request.params)
            line = self._codec.result(request, value)
        except RPCError as error:
            line = self._codec.failure(request, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect must not leave a request unanswered
            self._handler.handle_failure(error)
            text = str(error) if isinstance(error, ToolgateError) else "internal error of the gate"
            line = self._codec.failure(request, RPCError(ErrorCode.INTERNAL_ERROR, text))
        finally:
            del self._serving[request.id]
        self._send(line)
        faults.hit("reply.written")
