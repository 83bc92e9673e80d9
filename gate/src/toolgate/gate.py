"""One client connection: the wire's methods on one side, the kernel on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ValidationError

from toolgate import __version__, faults, jsonvalue, notices
from toolgate.config import GateConfig
from toolgate.errors import JournalError, JournalTampered, SchemaError
from toolgate.ir import ActionProposal, CostTarget, ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import ToolRun
from toolgate.kernel.recording import Unrecorded
from toolgate.kernel.result import ToolReply
from toolgate.kernel.steps import KeyConflict
from toolgate.kernel.telling import BeyondLog, Page
from toolgate.kernel.tools import ToolConflict
from toolgate.notices import Notices
from toolgate.replies import content, tool_reply
from toolgate.runtime import Runtime
from toolgate.subscriptions import LOOK, MOST, Subscriptions, TooManySubscriptions
from toolgate.wire.codec import JSON_RPC, Codec
from toolgate.wire.messages import ErrorCode, RequestId, RPCError
from toolgate.wire.params import (
    Cancel,
    Checkpoint,
    Equivalent,
    Events,
    Govern,
    Holds,
    Optimize,
    Propose,
    Rank,
    Restore,
    Resume,
    Simulate,
    State,
    Subscribe,
    Verify,
    Withdraw,
    bad_params,
    read_params,
)
from toolgate.wire.peer import Peer
from toolgate.wire.transport import HIGH_WATER, Transport

PROTOCOL = "1"

_LOGGED = 100
"""Bad messages that are told of on stderr; nobody may read it, and then it must not fill up."""


@dataclass(slots=True)
class _Call:
    """A request of the client that may take long: what a ``cancel`` reaches."""

    cancelled: asyncio.Future[None]
    uids: set[str] = field(default_factory=set)
    """The actions whose bodies it runs."""


class Gate:
    """Serves one client until it shuts the gate down or goes away."""

    def __init__(self, config: GateConfig, transport: Transport, codec: Codec = JSON_RPC) -> None:
        """Read the policy and open the journal; nothing is served yet.

        ``codec`` is how the client writes its messages.

        Raises :class:`~toolgate.errors.PolicyError`, :class:`~toolgate.errors.ConfigError` or
        :class:`JournalError`.
        """
        self._config = config
        self._transport = transport
        self.peer = Peer(transport.send, self, config.limits.max_message_bytes, codec)
        self._drain = min(config.limits.drain, codec.longest_drain)
        self._notices = Notices(
            lambda level, message: self.peer.notify("log", {"level": level, "message": message}),
            lambda: transport.waiting,
        )
        self.runtime = Runtime(config, self, self._notices.tell)
        self._subscriptions = Subscriptions(self._look, self._tell_event, lambda: transport.waiting)
        self._listing = asyncio.Lock()
        self._cancelled_early: set[RequestId] = set()
        self._tampering: set[str] = set()
        self._odd_messages = 0
        self._calls: dict[RequestId, _Call] = {}
        self._closing: str | None = None
        self._journal_closed = False
        self._closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Announce the gate and serve until the client ends it (``shutdown``, or end of input)."""
        self.peer.notify(
            "ready",
            {
                "protocol": PROTOCOL,
                "gate": {"name": "toolgate", "version": __version__},
                "session": self.runtime.session.session,
                "project": self._config.project,
                "mode": self._config.mode,
                "limits": {
                    "max_message_bytes": self._config.limits.max_message_bytes,
                    "max_in_flight": self._config.limits.max_in_flight,
                    "max_concurrency": self._config.limits.max_concurrency,
                    "drain_ms": round(self._drain * 1000),
                },
                "warnings": self._warnings(),
            },
        )
        self.runtime.watch()
        await self._closed.wait()
        await self._transport.close()

    def reload(self) -> None:
        """Reload the policy document: for signals."""
        if self._closing is None:
            self._in_background(self.runtime.reloader.ask())

    def stop(self, reason: str) -> None:
        """Shut down as the client's ``shutdown`` does: for signals."""
        self._in_background(self._close(reason, self._drain))

    # -- what the peer asks of its handler ---------------------------------------------------------

    async def handle_request(
        self, identifier: RequestId, method: str, params: dict[str, JSONValue]
    ) -> JSONValue:
        """Answer one request of the client."""
        faults.hit("request.read")
        if self._journal_closed:
            raise RPCError(ErrorCode.SHUTTING_DOWN, "the gate has shut down")
        serve = self._methods.get(method)
        if serve is None:
            raise RPCError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {method!r}")
        try:
            return await serve(self, identifier, params)
        except Unrecorded as error:
            self._notices.trouble(str(error))
            data: dict[str, JSONValue] = {"uid": error.uid, "ran": True}
            raise RPCError(ErrorCode.JOURNAL_UNAVAILABLE, str(error), data) from None
        except JournalTampered as error:
            self._report_tampering(error)
            raise RPCError(ErrorCode.JOURNAL_UNAVAILABLE, str(error)) from None
        except JournalError as error:
            self._notices.trouble(f"a request was refused: {error}")
            raise RPCError(ErrorCode.JOURNAL_UNAVAILABLE, str(error)) from None
        finally:
            self._cancelled_early.discard(identifier)

    def handle_notification(self, method: str, params: dict[str, JSONValue]) -> None:
        """Take a notification: ``cancel``, or a ``shutdown`` that nobody is answered for."""
        if method == "shutdown":
            self.stop("shutdown")
            return
        if method != "cancel":
            self.handle_odd_message(f"a notification that is not known: {method!r}")
            return
        try:
            identifier = Cancel.model_validate(params).id
        except ValidationError:
            self.handle_odd_message("a cancel without the id of a request")
            return
        call = self._calls.get(identifier)
        if call is None and self._subscriptions.cancel(identifier):
            return
        if call is None and self.peer.is_serving(identifier):
            # It came so soon after its request that nobody has looked at that yet.
            self._cancelled_early.add(identifier)
        if call is not None and not call.cancelled.done():
            call.cancelled.set_result(None)
            for uid in call.uids:
                self.runtime.engine.cancel(uid, "cancelled by the caller")

    def handle_odd_message(self, what: str) -> None:
        """Tell people about a message that nobody can be answered for."""
        self._odd_messages += 1
        if self._odd_messages <= _LOGGED:
            notices.log(f"bad message from the client: {what}")
        if self._odd_messages == _LOGGED:
            notices.log("further bad messages are answered, but not told of here")

    def handle_failure(self, error: Exception) -> None:
        """Tell people about a defect of the gate itself."""
        import traceback

        what = f"internal error of the gate ({type(error).__name__}); please report it"
        more = ":\n" + "".join(traceback.format_exception(error))
        self._notices.tell("error", what, more=more)

    def handle_end(self) -> None:
        """The client has gone: what runs is in doubt, what is held stays held."""
        self._in_background(self._close("the client went away", 0))

    # -- what the engine asks of its runner --------------------------------------------------------

    def run(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        """Have the client run a tool's body."""
        call = self._calls.get(order.call)
        if call is not None:
            call.uids.add(order.uid)
        self.peer.request(
            "run_tool",
            {
                "call": order.call,
                "tool": order.tool,
                "args": order.args,
                "uid": order.uid,
                "attempt": order.attempt,
                "timeout_ms": round(order.timeout * 1000),
            },
            lambda reply: on_reply(tool_reply(reply)),
        )

    def cancel(self, uid: str, reason: str) -> None:
        """Ask the client to stop a body."""
        self.peer.notify("cancel_tool", {"uid": uid, "reason": reason})

    # -- the methods of the wire -------------------------------------------------------------------

    async def _register_tool(
        self, identifier: RequestId, params: dict[str, JSONValue]
    ) -> JSONValue:
        self._refuse_when_closing()
        declared = read_params(ToolSchema, params)
        try:
            tool = await self.runtime.register_tool(declared)
        except ToolConflict as error:
            raise RPCError(ErrorCode.TOOL_CONFLICT, str(error)) from None
        except SchemaError as error:
            raise bad_params([str(error)]) from None
        return {"name": declared.name, "contract": tool.contract.public()}

    async def _govern(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Govern, params)
        call = self._admit_request(identifier)
        try:
            outcome = await self.runtime.govern(
                asked.tool,
                asked.args,
                identifier,
                call.cancelled,
                idempotency_key=asked.idempotency_key,
                timeout=None if asked.timeout_ms is None else asked.timeout_ms / 1000,
                parent=asked.parent,
                metadata=asked.metadata,
            )
        except KeyConflict as error:
            raise bad_params([f"idempotency_key: {error}"]) from None
        finally:
            del self._calls[identifier]
        return outcome.to_json()

    async def _propose(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Propose, params)
        proposal = _plan(asked.proposal)
        call = self._admit_request(identifier)
        try:
            result = await self.runtime.propose(
                proposal,
                jsonvalue.digest(asked.proposal),
                identifier,
                call.cancelled,
                idempotency_key=asked.idempotency_key,
                parent=asked.parent,
            )
        except KeyConflict as error:
            raise bad_params([f"idempotency_key: {error}"]) from None
        finally:
            del self._calls[identifier]
        return result.to_json()

    async def _resume(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Resume, params)
        faults.hit("resume.read")
        wait = None if asked.wait_ms is None else asked.wait_ms / 1000
        call = self._admit_request(identifier)
        try:
            outcome = await self.runtime.resume(asked.uid, identifier, wait, call.cancelled)
        finally:
            del self._calls[identifier]
        return outcome.to_json()

    async def _withdraw(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        self._refuse_when_closing()
        asked = read_params(Withdraw, params)
        return (await self.runtime.engine.withdraw(asked.uid)).to_json()

    async def _observe(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        self._refuse_when_closing()
        return {"labels": list(await self.runtime.observe(content(params)))}

    async def _state(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(State, params)
        await self._room()
        return self.runtime.state(asked.keys)

    async def _checkpoint(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        self._refuse_when_closing()
        asked = read_params(Checkpoint, params)
        return {"checkpoint_id": await self.runtime.checkpoint(asked.name)}

    async def _restore(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        self._refuse_when_closing()
        asked = read_params(Restore, params)
        outcome = (await self.runtime.restore(asked.checkpoint_id)).to_json()
        return {key: outcome[key] for key in ("status", "error", "state_changes") if key in outcome}

    async def _verify(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Verify, params)
        proposal = _plan(asked.proposal)
        found = self.runtime.verify(proposal, asked.state, asked.max_actions, asked.proposal)
        return found.to_json()

    async def _simulate(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Simulate, params)
        return {"state": self.runtime.simulate(_plan(asked.proposal), asked.state)}

    async def _equivalent(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Equivalent, params)
        a, b = _plan(asked.a, "a"), _plan(asked.b, "b")
        return self.runtime.equivalent(a, b, asked.states).to_json()

    async def _optimize(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Optimize, params)
        return self.runtime.optimize(_plan(asked.proposal), asked.state).to_json()

    async def _rank(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Rank, params)
        target = read_params(CostTarget, asked.target or {}, "target")
        plans = [
            _plan(candidate, "candidates", str(place))
            for place, candidate in enumerate(asked.candidates)
        ]
        ranking = self.runtime.rank(plans, target, asked.state, asked.candidates)
        return {"ranking": [item.to_json() for item in ranking]}

    async def _holds(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Holds, params)
        await self._room()
        holds, after, wrong = self.runtime.engine.holds(asked.status, asked.limit, asked.after)
        for error in wrong:
            self._report_tampering(error)
        return {"holds": holds, "next": after}

    async def _events(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        asked = read_params(Events, params)
        # A page is looked up in several turns. One at a time, each with the one before it sent:
        # else there would be room for all of them.
        async with self._listing:
            await self._room()
            try:
                page = await self._subscriptions.listed(asked.after, asked.limit, asked.action_id)
            except BeyondLog as error:
                raise bad_params([f"after: {error}"]) from None
        return {"events": page.events, "next": page.after if page.more else None}

    async def _subscribe(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        self._refuse_when_closing()
        asked = read_params(Subscribe, params)
        cancelled = identifier in self._cancelled_early
        following = self._subscriptions.follow(
            identifier, asked.after, asked.limit, asked.action_id, cancelled=cancelled
        )
        try:
            return {"after": await following}
        except BeyondLog as error:
            raise bad_params([f"after: {error}"]) from None
        except TooManySubscriptions:
            raise RPCError(
                ErrorCode.TOO_MANY_IN_FLIGHT,
                f"{MOST} subscriptions are open already; cancel one",
            ) from None

    def _look(self, after: int | None, limit: int, about: str | None) -> Page:
        page = self.runtime.events(after, limit, about)
        for error in page.wrong:
            self._report_tampering(error)
        return page

    def _tell_event(self, subscription: RequestId, event: dict[str, JSONValue]) -> None:
        self.peer.notify("event", {"subscription": subscription, "event": event})

    async def _ping(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        return {}

    async def _shutdown(self, identifier: RequestId, params: dict[str, JSONValue]) -> JSONValue:
        await self._close("shutdown", self._drain)
        return {}

    _methods: ClassVar = {
        "register_tool": _register_tool,
        "govern": _govern,
        "resume": _resume,
        "withdraw": _withdraw,
        "propose": _propose,
        "observe": _observe,
        "state": _state,
        "checkpoint": _checkpoint,
        "restore": _restore,
        "verify": _verify,
        "simulate": _simulate,
        "equivalent": _equivalent,
        "optimize": _optimize,
        "rank": _rank,
        "holds": _holds,
        "events": _events,
        "subscribe": _subscribe,
        "ping": _ping,
        "shutdown": _shutdown,
    }

    # -- beginning and end -------------------------------------------------------------------------

    def _warnings(self) -> list[JSONValue]:
        warnings = self.runtime.warnings
        for warning in warnings:
            notices.log(f"warning: {warning}")
        return [*faults.warnings(), *warnings]

    def _refuse_when_closing(self) -> None:
        if self._closing is not None:
            raise RPCError(ErrorCode.SHUTTING_DOWN, "the gate is shutting down")

    def _admit_request(self, identifier: RequestId) -> _Call:
        self._refuse_when_closing()
        limits = self._config.limits
        if self.runtime.engine.in_flight >= limits.max_in_flight:
            raise RPCError(
                ErrorCode.TOO_MANY_IN_FLIGHT,
                f"{limits.max_in_flight} calls are in flight already (limits.max_in_flight); wait "
                "for one to end",
            )
        if len(self._calls) >= limits.max_in_flight + limits.max_waiting:
            raise RPCError(
                ErrorCode.TOO_MANY_IN_FLIGHT,
                f"{limits.max_waiting} calls wait already, besides those in flight "
                "(limits.max_waiting); wait for one to end",
            )
        call = _Call(asyncio.get_running_loop().create_future())
        if identifier in self._cancelled_early:
            call.cancelled.set_result(None)
        self._calls[identifier] = call
        return call

    async def _close(self, reason: str, drain: float) -> None:
        """Give every call in flight an end, then close the run. The first to come closes it."""
        if self._closing is not None:
            await self._closed.wait()
            return
        self._closing = reason
        faults.hit("shutdown.begun")
        await self.runtime.engine.drain(drain)
        faults.hit("shutdown.drained")
        others = self._others()
        if others:
            _, late = await asyncio.wait(others, timeout=_LAST_WORDS)
            if late:
                # Their bodies began while the others were drained.
                await self.runtime.engine.drain(0)
                await asyncio.wait(late, timeout=_LAST_WORDS)
        await self.runtime.engine.recorder.finish(_LAST_WORDS)
        await self._subscriptions.end(_LAST_WORDS)
        self._journal_closed = True
        try:
            self.runtime.close(reason)
            faults.hit("shutdown.ended")
        except JournalError as error:
            self._notices.tell("error", f"the end of this run could not be journaled: {error}")
        finally:
            # After this turn, in which the reply to `shutdown` is sent.
            asyncio.get_running_loop().call_soon(self._closed.set)

    async def _room(self) -> None:
        """Wait for a client that does not read, before the answer to a small question is large."""
        while self._transport.waiting > HIGH_WATER:
            self._refuse_when_closing()
            await asyncio.sleep(LOOK)

    def _others(self) -> list[asyncio.Task[None]]:
        """Return the tasks of the calls that are not answered, but for the one that asks."""
        but = {asyncio.current_task(), *self._subscriptions.tasks}
        return [task for task in self.peer.serving if task not in but]

    def _report_tampering(self, error: JournalTampered) -> None:
        """Tell people and the log, once each: whoever asks again must not fill it."""
        what = str(error)
        if what not in self._tampering and len(self._tampering) < _LOGGED:
            self._tampering.add(what)
            self._notices.tell("error", f"TAMPERED JOURNAL: {what}")
            self._in_background(self.runtime.journal_tampering(error))

    def _in_background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._notices.trouble(f"error: {task.exception()}")


_LAST_WORDS = 5.0
"""Seconds for the calls in flight to be answered once their bodies have been given an end.

As many are given to the ends that could not be recorded."""


def _plan(proposal: dict[str, JSONValue], *where: str) -> ActionProposal:
    """Return a proposal that was sent as the parameter ``where``."""
    return read_params(ActionProposal, proposal, *(where or ("proposal",)))
