"""The public client: starts a gate, registers tools, makes governed calls."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import RLock

from toolgate_client import _requests
from toolgate_client._async_client import AsyncMethods
from toolgate_client._encode import default_encoder
from toolgate_client._errors import GateClosed, GateError, action_error
from toolgate_client._gate import Gate
from toolgate_client._plans import PlanMethods
from toolgate_client._threads import do

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from toolgate_client._bodies import Body
    from toolgate_client._documents import Trust
    from toolgate_client._events import Subscription
    from toolgate_client._models import Event, Hold, Outcome
    from toolgate_client._transport import GateProcess

_NOT_STARTED = "this gate client is not started: use it in a with block, or start() it"


class GateClient(PlanMethods, AsyncMethods):
    """A gate of one's own: a child process that decides, for each governed call, whether it runs.

    >>> with GateClient("gate.yaml") as gate:                            # doctest: +SKIP
    ...     gate.register_tool("send_email", send_email)
    ...     gate.call("send_email", {"to": "ada@acme.example"})

    ``config`` is the path of the gate's config file, or its content as a mapping, which is written
    to a private temporary file; relative paths in a mapping start at the current folder.
    ``launcher`` is the command that runs ``toolgate``, such as ``["/opt/bin/toolgate"]``; else
    this interpreter's own ``toolgate`` package is run, or the program ``toolgate`` on PATH.
    ``start_timeout`` is in seconds. ``encoder`` turns a body's result into the JSON that the gate
    checks and records (default: :func:`default_encoder`); the caller gets the result itself.

    One client serves any number of threads and event loops at once. Every method that asks the gate
    has an asynchronous twin, whose name begins with ``a``, and ``async with`` starts and closes.
    The body of a tool runs in the thread, or the task, that waits for the call; only bodies of a
    proposal that run at the same time need others (:meth:`propose`, :meth:`apropose`), and
    synchronous bodies of asynchronous calls need threads (:meth:`agovern`).

    No call survives a fork: a child process needs a client of its own. No signal handlers are
    installed, and Ctrl-C reaches this process, not the gate. Leaving the ``with`` block (or
    :meth:`close`) lets calls in flight end and stops the gate.

    Every method may raise :class:`GateClosed` when the gate is gone, and :class:`GateError` when
    the client was not started or was inherited through a fork.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any],
        *,
        launcher: Sequence[str] | None = None,
        start_timeout: float = 30.0,
        encoder: Callable[[Any], Any] | None = None,
    ) -> None:
        if isinstance(launcher, (str, bytes)):
            raise TypeError('launcher is a sequence of words, such as ["/opt/bin/toolgate"]')
        self._config = config
        self._launcher = launcher
        self._start_timeout = start_timeout
        self._encoder = encoder or default_encoder
        self._lock = RLock()
        self._gate: Gate | None = None
        self._greeting: Mapping[str, Any] = {}
        self._temporary: str | None = None
        self._closed = False
        self._stopped = False

    # --- life

    def start(self) -> GateClient:
        """Start the gate and wait until it is ready; returns this client. Again: does nothing.

        Raises :class:`GateStartError` with what the gate printed.
        """
        with self._lock:
            if self._closed:
                raise GateClosed("this gate client is closed")
            if self._gate is None:
                self._start()
        return self

    def close(self) -> None:
        """Let calls in flight end (bounded by the gate's ``limits.drain``) and stop the gate.

        Holds stay as they are. Calling it again, from any thread, waits for the first and does
        nothing, or completes what an interrupt cut short. In a forked child it does nothing.
        """
        gate = self._gate
        if gate is not None and os.getpid() != gate.process.owner:
            return
        with self._lock:
            self._closed = True
            if self._stopped:
                return
            try:
                if self._gate is not None:
                    from toolgate_client._life import stop

                    stop(self._gate)
            finally:
                _remove(self._temporary, os.getpid())
            self._stopped = True

    def __enter__(self) -> GateClient:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def session(self) -> str:
        """The id of the gate's session."""
        return str(self._ready("session"))

    @property
    def project(self) -> str:
        """The project the gate's config names."""
        return str(self._ready("project"))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the gate warned about when it started."""
        return tuple(map(str, self._ready("warnings") or ()))

    @property
    def closed(self) -> bool:
        """Whether calls are over: this client was closed, or its gate has ended."""
        return self._closed or (self._gate is not None and self._gate.core.ended)

    # --- tools and calls

    def register_tool(
        self,
        name: str,
        body: Body,
        *,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        returns: Mapping[str, Any] | None = None,
        idempotent: bool = False,
        cache_ttl: float | None = None,
        rate_limit: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make a tool known to the gate; returns its effective contract.

        ``body`` takes the arguments as a dictionary and returns any value, or a :class:`Result`
        with what it has read. ``parameters`` and ``returns`` are JSON Schemas. Registering the same
        again replaces the body.

        ``idempotent`` says that a call that succeeded in this session need not be made again: the
        repeat gets its result; ``cache_ttl`` says so for as many seconds. ``rate_limit`` is
        ``{"max_calls": n, "interval_secs": s}``: so many calls in so many seconds.

        Raises :class:`ProtocolError` when the gate refuses: a schema that is none, or another
        schema than the name was registered with.
        """
        gate = self._usable()
        asked = _requests.register_tool(
            name, body, description, parameters, returns, idempotent, cache_ttl, rate_limit
        )
        contract = do(gate, asked)
        gate.bodies[name] = body
        return contract

    def govern(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        body: Body | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Propose a call to a tool; if it is allowed, its body runs here and now.

        ``args`` are JSON: what the gate judges is exactly what is written here. ``idempotency_key``
        names this call for ever: repeated with it, the call is not made again, its outcome is
        given. ``timeout`` is in seconds. ``body`` replaces the registered body, for this call.

        A denial, a hold and a failure are outcomes, not exceptions; see :meth:`call`. An exception
        of the body is in ``Outcome.exception``. What is no ``Exception`` (``KeyboardInterrupt``,
        ``SystemExit``) is raised here as it is, once the gate has recorded the failure. Leaving by
        an interrupt while the gate still decides cancels the call.

        A call made by a body names the action of that body as its parent. When more calls are in
        flight than the gate takes (``limits.max_in_flight``), this waits until another one ends.

        Raises ``TypeError`` or ``ValueError``, with nothing proposed, when ``args`` or ``metadata``
        are not JSON; :class:`GateError`, with nothing proposed, when the body is a coroutine
        function and this thread runs an event loop (without one, it is run to its end here);
        :class:`ProtocolError` when the gate cannot take the request.
        """
        gate = self._usable()
        gate.check_body(tool, body)
        asked = _requests.govern(gate, tool, args, idempotency_key, timeout, body, metadata)
        return do(gate, asked)

    def call(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        body: Body | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Like :meth:`govern`, but return the output, or raise why there is none.

        Raises :class:`ActionDenied` when the call did not run, :class:`ActionHeld` when it is not
        settled yet, :class:`ActionFailed` when it failed, caused by the exception of its body.
        """
        outcome = self.govern(
            tool,
            args,
            idempotency_key=idempotency_key,
            timeout=timeout,
            body=body,
            metadata=metadata,
        )
        if outcome.succeeded:
            return outcome.output
        raise action_error(tool, outcome) from outcome.exception

    def withdraw(self, uid: str) -> Outcome:
        """Take back a held action: no approval runs it any more. Returns what it has become."""
        gate = self._usable()
        return do(gate, _requests.withdraw(gate, uid))

    def observe(
        self,
        text: str,
        *,
        source: str | None = None,
        trust: Trust = "untrusted",
    ) -> list[str]:
        """Tell the gate that content came into the session; returns the labels it has then.

        For what did not come by a tool: a mail that starts the agent, an uploaded file. (A body
        tells of what it has read with :class:`Result`.) ``untrusted`` content gives the session the
        label ``untrusted``. The journal keeps the digest of the text, its length and ``source``.
        """
        gate = self._usable()
        return do(gate, _requests.observe(gate, text, source, trust))

    def holds(self, status: str | None = None) -> list[Hold]:
        """The holds of this gate's journal, optionally of one ``status`` such as ``pending``."""
        gate = self._usable()
        found, after = do(gate, _requests.holds(status, None))
        while after is not None:
            more, after = do(gate, _requests.holds(status, after))
            found += more
        return found

    def events(
        self, *, after: int = 0, limit: int | None = None, uid: str | None = None
    ) -> list[Event]:
        """What the journal says of this session, in its order.

        ``after`` is the ``seq`` of the event to go on from. At most ``limit`` are returned, or all
        there are. ``uid`` is that of an action, or of a proposal with its actions.
        """
        gate = self._usable()
        found: list[Event] = []
        place: int | None = after
        while place is not None and (limit is None or len(found) < limit):
            left = None if limit is None else limit - len(found)
            more, place = do(gate, _requests.events(place, left, uid))
            found += more
        return found

    def subscribe(self, *, after: int | None = None, uid: str | None = None) -> Subscription:
        """The session's events as they come, to be iterated by a thread or a task.

        >>> with gate.subscribe() as events:                             # doctest: +SKIP
        ...     for event in events:
        ...         print(event.kind, event.action)

        ``after`` is the ``seq`` of the event to go on from, 0 for the session's first; by default
        it begins with what comes from now on. ``uid`` is as in :meth:`events`. Whoever is slow
        loses nothing, and keeps no call waiting.
        """
        from toolgate_client._events import Subscription

        return Subscription(self._usable(), after, uid)

    def ping(self) -> None:
        """Return when the gate has answered."""
        do(self._usable(), _requests.ping())

    # --- pieces

    def _usable(self) -> Gate:
        gate = self._gate
        if gate is None:
            if self._closed:
                raise GateClosed("this gate client is closed")
            raise GateError(_NOT_STARTED)
        gate.check_usable()
        return gate

    def _ready(self, key: str) -> Any:
        if not self._greeting:
            raise GateError(_NOT_STARTED)
        return self._greeting.get(key)

    def _start(self) -> None:
        from toolgate_client._launch import command_line, write_config
        from toolgate_client._life import wait_until_ready
        from toolgate_client._transport import GateProcess

        process: GateProcess | None = None
        try:
            if isinstance(self._config, Mapping):
                self._temporary = write_config(self._config, os.getcwd())
                config_file = self._temporary
            else:
                config_file = os.fspath(self._config)
            command = command_line(self._launcher, config_file)
            process = GateProcess(command)
            gate = Gate(process, self._encoder)
            self._greeting = wait_until_ready(gate, command, self._start_timeout)
            process.stderr.pass_through()
            if self._temporary is not None:
                weakref.finalize(self, _remove, self._temporary, process.owner)
            self._gate = gate
        finally:
            if self._gate is None:
                if process is not None:
                    process.stop(grace=0.0)
                    process.release()
                _remove(self._temporary, os.getpid())


def _remove(path: str | None, owner: int) -> None:
    if path is not None and os.getpid() == owner:
        with suppress(FileNotFoundError):
            os.unlink(path)
