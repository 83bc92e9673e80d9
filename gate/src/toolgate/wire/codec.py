"""How messages are written on a connection. The gate is the same whatever its clients write."""

from __future__ import annotations

import math
from typing import Final, Protocol

from toolgate.jsonvalue import JSONValue
from toolgate.wire import messages
from toolgate.wire.framing import Oversized
from toolgate.wire.messages import ErrorCode, Invalid, Message, Request, RequestId, RPCError


class Codec(Protocol):
    """Lines into messages and messages into lines. Pure: it keeps nothing of what it has seen."""

    @property
    def longest_drain(self) -> float:
        """Seconds for which running bodies may be waited for: its clients then kill the gate."""

    @property
    def ends_matter(self) -> bool:
        """Whether how an oversized line ends must be known to tell what it would have been."""

    def read(self, line: bytes) -> tuple[Message, ...]:
        """Tell what a line is. Never raises."""

    def oversized(self, line: Oversized, why: str) -> tuple[Message, ...]:
        """Tell what a line that is too long would have been."""

    def request(self, identifier: RequestId, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return a request of the gate."""

    def notification(self, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return a notification of the gate; empty when these clients are not told of it."""

    def result(self, request: Request, value: JSONValue) -> bytes:
        """Return the successful answer to a request."""

    def failure(self, request: Request, error: RPCError) -> bytes:
        """Return the answer to a request that could not be served."""

    def invalid(self, message: Invalid) -> bytes:
        """Return the answer to what is no request."""


class JsonRpc:
    """JSON-RPC 2.0: what :mod:`toolgate.wire.messages` reads and writes."""

    longest_drain: Final = math.inf
    ends_matter: Final = False

    def read(self, line: bytes) -> tuple[Message, ...]:
        """Tell what a line is."""
        return (messages.read(line),)

    def oversized(self, line: Oversized, why: str) -> tuple[Message, ...]:
        """Tell what a line that is too long would have been, from how it begins."""
        return (messages.unreadable(line.head, ErrorCode.MESSAGE_TOO_LARGE, why),)

    def request(self, identifier: RequestId, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return a request."""
        return messages.request(identifier, method, params)

    def notification(self, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return a notification."""
        return messages.notification(method, params)

    def result(self, request: Request, value: JSONValue) -> bytes:
        """Return a reply with a result."""
        return messages.result(request.id, value)

    def failure(self, request: Request, error: RPCError) -> bytes:
        """Return a reply with an error."""
        return messages.error(request.id, error)

    def invalid(self, message: Invalid) -> bytes:
        """Return an error reply; its id is null where none could be made out."""
        return messages.error(message.id, message.error)


JSON_RPC: Final = JsonRpc()
"""The gate's own wire."""
