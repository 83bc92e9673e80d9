"""The client's side of the wire without I/O: bytes in, mailboxes filled, messages out.

One :class:`Core` per connection. It allocates ids, knows which requests are under way, cuts what
was read into messages and puts each into the mailbox of the caller it belongs to. It owns no pipe,
no thread and no clock, so sync and async callers share it.

Interrupts. ``KeyboardInterrupt`` may strike between any two bytecodes of whoever runs this, and
nothing may be lost or happen twice then. Hence:

- What was read is appended to ``fragments`` and what is written leaves ``outbox`` in single
  operations of the interpreter's C code, which no signal handler splits.
- :meth:`Core.pump` removes a line only after its delivery, and delivering a line again changes
  nothing.
- :meth:`Core.leave` may be called again at any time.

Threads. One caller at a time may run ``pump`` (who that is, is the business of the transport);
everything else may be called from any thread. Shared state is touched by operations that are
atomic by themselves, in an order that makes every message seen by at least one of two parties.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import count

from toolgate_client._encode import to_wire
from toolgate_client._errors import ProtocolError
from toolgate_client._mailbox import Mailbox, Run
from toolgate_client._queue import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = "1"

# JSON-RPC error codes of the wire that this side sends or acts upon.
BODY_FAILED = -32000
TOO_LARGE = -32001
SHUTTING_DOWN = -32002
TOO_MANY_IN_FLIGHT = -32003
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

SUSPENDED: Any = object()
"""In the place of a body's output: it has stopped itself, to be entered again."""
_COUNTED = frozenset({"govern", "propose", "resume"})
"""The methods whose calls are in flight, in the sense of the gate's ``max_in_flight``."""

_decode = json.JSONDecoder().raw_decode
_LONGEST_MESSAGE = 16384
"""How much of an exception's text goes to the gate, in characters."""
OWN_LOG = "toolgate_client"
"""The logger of what this side notices."""
GATES_LOG = "toolgate"
"""The logger of what the gate says by ``log``."""
_DEEP = 500
"""So many brackets can be nested deeper than any gate's message is."""
_QUOTED = 200
"""How much of an unusable line is quoted in the notice about it, in characters."""


class Outgoing:
    """One encoded message on its way out; ``counts`` are the bytes each write has taken of it."""

    __slots__ = ("counts", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.counts: list[int] = []


class Core:
    """The state of one connection. See the module's text for the rules."""

    def __init__(self) -> None:
        self.fragments: list[bytes] = []
        """What was read and not yet handled, cut after each LF; the last may be a part of a line.
        Append with :meth:`feed`, or in one operation with ``extend``."""
        self.outbox: deque[Outgoing] = deque()
        """What has to be written, in this order."""
        self.notices: deque[tuple[str, str, str]] = deque(maxlen=1000)
        """(who says it, level, text) for the log, to be written by somebody who is not reading."""
        self.turns = Turns()
        """Callers that the gate refused because it had too many."""
        self.ended = False
        """No message will arrive any more."""
        self.max_message_bytes: int | None = None
        """The longest line the gate accepts, if it said so."""
        self._ids = count(1)
        self._newest = 0
        """The id of a request made lately: none before it is unheard of."""
        self._delivered: int | None = None
        """The id of the latest run that has an owner: should its line be handled again, after an
        interrupt and after the owner has answered and left, then that was the answer."""
        self._pending: dict[int, Mailbox] = {}
        self._abandoned: dict[int, bool] = {}
        """Counted requests that nobody waits for, and whether a hold is to be taken back that the
        response tells of: nobody else will ever hear of it."""
        self._greeting: Mailbox | None = None
        # The digests that it needs take their time to import, while the gate's process starts.
        from toolgate_client._omitted import shorter

        self._shorter = shorter

    def feed(self, data: bytes) -> None:
        """Take bytes as they were read."""
        self.fragments.extend(BytesIO(data))

    def under_way(self) -> set[int]:
        """The ids of the calls, of those the gate counts, that have no response yet."""
        pending = list(self._pending.values())
        waiting = {box.id for box in pending if box.counted and box.response is None}
        return waiting.union(list(self._abandoned))

    def expect_greeting(self, box: Mailbox) -> None:
        """Deliver the gate's ``ready`` to ``box``, as a response."""
        self._greeting = box

    # --- to the gate

    def request(self, box: Mailbox, method: str, params: Mapping[str, Any], what: str) -> None:
        """Send a request whose response, runs and end wake ``box``; ``what`` names it in errors.

        Raises, with nothing sent, ``TypeError`` or ``ValueError`` when it cannot be sent as JSON,
        and :class:`ProtocolError` when the gate would not take a message of that length.
        """
        box.id = self._newest = next(self._ids)
        head = b'"id":%d,"method":"%s","params":' % (box.id, method.encode())
        data = self._line(head, params, what)
        if self._too_long(data):
            raise self._too_large(what, data)
        box.counted = method in _COUNTED
        box.waits = method == "govern" or (method == "resume" and params.get("wait_ms") != 0)
        self._pending[box.id] = box
        self.outbox.append(Outgoing(data))

    def reply(self, run: Run, output: Any, documents: Sequence[Mapping[str, str]] = ()) -> None:
        """Answer a run with its body's result, JSON or ``SUSPENDED``, and what the body has read.

        Of what is too long for a message, the gate is told what fits. Raises ``TypeError``,
        ``ValueError`` or :class:`ProtocolError` like :meth:`request`; the run is not answered then.
        """
        what = f"the result of tool {run.tool!r}"
        result = {"suspended": True} if output is SUSPENDED else {"output": output}
        result |= {"documents": documents} if documents else {}
        head = b'"id":%d,"result":' % run.id
        data = self._line(head, result, what)
        if self._too_long(data):
            forms = (self._line(head, each, what) for each in self._shorter(result))
            fits = next((line for line in forms if not self._too_long(line)), None)
            if fits is None:
                raise self._too_large(what, data)
            data = fits
        self.outbox.append(Outgoing(data))
        run.answered = True

    def reply_failed(
        self, run: Run, type_name: str, message: str, *, retryable: bool = False
    ) -> None:
        """Answer a run with the failure of its body; the message is cut and repaired as needed.

        ``retryable`` says whether trying again could help; the gate decides whether it does.
        """
        message = message[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()
        data = {"type": type_name, "message": message, "retryable": retryable}
        self._refuse(run.id, BODY_FAILED, message, data)
        run.answered = True

    def not_begun(self, run: Run) -> None:
        """Answer a run whose body the gate cancelled before anybody began it."""
        message = f"the body of tool {run.tool!r} was not begun: the gate cancelled it"
        self.reply_failed(run, "NotBegun", message)

    def caller_gone(self, run: Run) -> None:
        """Answer a run that nobody is there for any more."""
        if run.returned:
            # It ran to its end; only the way back was cut. The journal should know that.
            message = f"the caller of tool {run.tool!r} left after the body had returned"
        else:
            message = f"the caller of tool {run.tool!r} is gone; the body was not run to its end"
        self.reply_failed(run, "CallerGone", message)

    def cancel(self, box: Mailbox) -> None:
        """Tell the gate that nobody waits for this request; it is answered all the same."""
        self.outbox.append(Outgoing(self._line(b'"method":"cancel","params":', {"id": box.id})))

    def leave(self, box: Mailbox) -> None:
        """The owner of ``box`` waits no more. Whatever is open for it gets an answer."""
        if box.left:
            return
        waiting = box.response is None and not self.ended
        if waiting and self._pending.get(box.id) is box:
            if box.counted:
                self._abandoned[box.id] = box.waits
            self.cancel(box)
        self._pending.pop(box.id, None)
        if box.response is not None:
            self._abandoned.pop(box.id, None)  # it came just now
        for run in list(box.runs):
            if not run.answered and run.claim(box):
                self.caller_gone(run)
        box.left = True

    def _withdraw(self, uid: str) -> None:
        """Take a hold back; nobody hears the answer."""
        id = self._newest = next(self._ids)
        head = b'"id":%d,"method":"withdraw","params":' % id
        self.outbox.append(Outgoing(self._line(head, {"uid": uid})))

    def leave_queue(self, box: Mailbox) -> None:
        """The owner of ``box`` waits no more for its turn."""
        passed_on = self.turns.leave(box)
        # When it gave up because nothing can end, others that wait have to hear of that, too.
        if (passed_on or self.turns.stuck(self.under_way())) and not self.ended:
            # Who is to be woken may be reading: only a message wakes it for certain.
            id = self._newest = next(self._ids)
            self._abandoned[id] = False
            self.outbox.append(Outgoing(self._line(b'"id":%d,"method":"ping","params":' % id, {})))

    def end(self) -> None:
        """No message will arrive any more: everybody who waits is woken to see it."""
        self.ended = True
        for box in [*self._pending.values(), *self.turns]:
            box.wake()
        if self._greeting is not None:
            self._greeting.wake()

    # --- from the gate

    def pump(self) -> None:
        """Handle every complete line of ``fragments``. One caller at a time."""
        fragments = self.fragments
        while fragments:
            line, used = fragments[0], 1
            if not line.endswith(b"\n"):
                for used, part in enumerate(fragments, 1):  # noqa: B007 - the count is the result
                    if part.endswith(b"\n"):
                        break
                else:
                    return
                line = b"".join(fragments[:used])
            self._handle(line)
            del fragments[:used]

    def _handle(self, line: bytes) -> None:
        try:
            message = _parse(line)
        except ValueError as error:
            text = line[:_QUOTED].decode(errors="backslashreplace").rstrip()
            self._notice("warning", f"the gate sent a line that is not JSON ({error}): {text}")
            return
        if type(message) is not dict:
            self._notice("warning", "the gate sent JSON that is not an object; it is ignored")
            return
        method = message.get("method")
        if method is None:
            self._on_response(message)
        elif "id" in message:
            self._on_request(message["id"], method, message.get("params"))
        else:
            self._on_notification(method, message.get("params"))

    def _on_response(self, message: dict[str, Any]) -> None:
        id = message.get("id")
        if type(id) is not int:
            self._notice("warning", f"the gate reports an error: {message.get('error')}")
            return
        box = self._pending.get(id)
        if box is not None:
            if box.counted and not is_refusal(message):
                self.turns.next()
            box.response = message
            self._abandoned.pop(id, None)
            box.wake()
        elif id in self._abandoned:
            # It was on its way when the gate was told that nobody waits.
            if self._abandoned[id] and (uid := held_uid(message)) is not None:
                self._withdraw(uid)
            self.turns.next()
            self._abandoned.pop(id, None)
        elif not 0 < id <= self._newest:
            # A caller that left does not hear the end of its request; nobody need know. (An
            # interrupt is what callers leave by, and it may come again while its thread logs.)
            self._notice("warning", f"a response to no request: {id}")

    def _on_request(self, id: Any, method: Any, params: Any) -> None:
        if type(id) is not int:
            self._notice("warning", f"the gate sent a request with the id {id!r}; it is ignored")
        elif method != "run_tool":
            self._refuse(id, METHOD_NOT_FOUND, f"a client has no method {method!r}")
        elif not _is_run(params):
            self._refuse(id, INVALID_PARAMS, "run_tool needs call, tool, args and uid")
        else:
            self._on_run(id, params)

    def _on_run(self, id: int, params: dict[str, Any]) -> None:
        run = Run(id, params["tool"], params["args"], params["uid"], params.get("attempt", 1))
        call = params["call"]
        box = self._pending.get(call)
        if box is None:
            if id != self._delivered:
                self.caller_gone(run)
            return
        # The last run may be known by itself alone: an interrupt came before its id was noted.
        if id not in box.known and not (box.runs and box.runs[-1].id == id):
            box.deliver(run)
        self._delivered = id
        box.known.add(id)
        box.wake()
        # The owner either left before it could see this run, or answers it when leaving.
        if self._pending.get(call) is not box and not run.answered and run.claim(self):
            self.caller_gone(run)

    def _on_notification(self, method: Any, params: Any) -> None:
        if method == "ready":
            box = self._greeting
            if box is not None and box.response is None:
                box.response = {"result": params}
                box.wake()
        elif method == "log" and type(params) is dict:
            level, text = str(params.get("level", "info")), str(params.get("message", ""))
            self.notices.append((GATES_LOG, level, text))
        elif method == "event" and type(params) is dict:
            self._on_event(params)
        elif method == "cancel_tool" and type(params) is dict:
            self._on_cancel_tool(params.get("uid"))
        # Everything else is ignored: fields and notifications may be added to the wire.

    def _on_event(self, params: dict[str, Any]) -> None:
        id = params.get("subscription")
        box = self._pending.get(id) if type(id) is int else None
        if box is not None:  # else it has ended, and this was on its way
            box.tell(params.get("event"))
            box.wake()

    def _on_cancel_tool(self, uid: Any) -> None:
        for box in list(self._pending.values()):
            for run in list(box.runs):
                if run.uid != uid or run.answered:
                    continue
                if run.claim(self):
                    self.not_begun(run)
                else:
                    box.stop_body(run)

    # --- pieces

    def _too_long(self, data: bytes) -> bool:
        return self.max_message_bytes is not None and len(data) > self.max_message_bytes

    def _too_large(self, what: str, data: bytes) -> ProtocolError:
        return ProtocolError(
            f"{what} cannot be sent: {len(data)} bytes, and the gate takes at most "
            f"{self.max_message_bytes} (limits.max_message_bytes in its config)",
            code=TOO_LARGE,
        )

    def _refuse(self, id: int, code: int, message: str, data: Any = None) -> None:
        error = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        self.outbox.append(Outgoing(self._line(b'"id":%d,"error":' % id, error)))

    def _notice(self, level: str, text: str) -> None:
        self.notices.append((OWN_LOG, level, text))

    @staticmethod
    def _line(head: bytes, body: Any, what: str = "the message") -> bytes:
        return b'{"jsonrpc":"2.0",%s%s}\n' % (head, to_wire(body, what))


def is_refusal(response: Mapping[str, Any]) -> bool:
    """Whether the gate had too many calls in flight; the request may be made again."""
    error = response.get("error")
    return type(error) is dict and error.get("code") == TOO_MANY_IN_FLIGHT


def held_uid(response: Mapping[str, Any]) -> str | None:
    """The uid of the action that a response says is held; ``None`` for every other response."""
    result = response.get("result")
    if not (isinstance(result, dict) and result.get("status") == "held" and result.get("hold")):
        return None
    return str(result.get("uid"))


def _parse(line: bytes) -> Any:
    text = line.decode().strip()
    try:
        value, end = _decode(text)
    except RecursionError:
        if text.count("[") + text.count("{") < _DEEP:
            raise  # it is the reader's own stack that has no room: another reader will do
        raise ValueError("nested too deeply") from None
    if end != len(text):
        raise ValueError(f"more text after its end, at {end}")
    return value


def _is_run(params: Any) -> bool:
    return (
        type(params) is dict
        and type(params.get("call")) is int
        and type(params.get("tool")) is str
        and type(params.get("args")) is dict
        and type(params.get("uid")) is str
    )
