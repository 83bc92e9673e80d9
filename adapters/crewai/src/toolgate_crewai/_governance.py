"""One call of a governed tool: what the gate is asked, what runs, what CrewAI gets."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from toolgate_client import GateClient, GateError
from toolgate_client._adapting.calls import Call, NoResult, not_json
from toolgate_client._adapting.jsonvalues import canonical, same_json
from toolgate_client._adapting.options import OnDenied
from toolgate_client._adapting.threads import Caller, in_thread, on_loop
from toolgate_crewai._arguments import ToolArguments
from toolgate_crewai._failures import denied, raised

RETURNS = "toolgate_returns"
"""A keyword between a clone's own methods: a denial is returned, whatever ``on_denied`` says."""


@dataclass(frozen=True)
class Governance:
    """What a governed clone knows besides its tool: its gate, its name there, its options."""

    gate: GateClient
    name: str
    arguments: ToolArguments
    hold: str
    hold_timeout: float | None
    on_denied: OnDenied

    def __deepcopy__(self, memo: dict[int, Any]) -> Governance:
        return self  # a copied tool is governed by the same gate

    def run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Govern a call whose body runs in this thread; a coroutine that it returns, too."""
        returns = kwargs.pop(RETURNS, False)

        def enter(*args: Any, **kwargs: Any) -> Any:
            result = body(*args, **kwargs)
            return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

        return self._govern(enter, args, kwargs, Caller(), returns)

    async def arun(
        self, body: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Govern a call from a coroutine; the body runs as a task of this loop."""
        returns = kwargs.pop(RETURNS, False)
        caller = Caller()
        enter = on_loop(body, caller)
        govern = functools.partial(self._govern, enter, args, kwargs, caller, returns)
        return await in_thread(govern, caller)

    def _govern(
        self,
        enter: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        caller: Caller,
        returns: bool,
    ) -> Any:
        arguments = self.arguments
        named = arguments.named(args, kwargs)
        try:
            proposed = arguments.to_json(named)
            canonical(proposed)
        except (TypeError, ValueError) as error:
            return self._denied(not_json(error), returns)

        def body(released: dict[str, Any]) -> Any:
            if same_json(released, proposed):
                return enter(*args, **kwargs)
            return enter(**arguments.edited(released, proposed, named))

        call = Call(
            gate=self.gate,
            tool=self.name,
            args=proposed,
            body=body,
            hold=self.hold,
            hold_timeout=self.hold_timeout,
            caller=caller,
        )
        try:
            return call.run()
        except NoResult as none:
            return self._denied(none.error, returns)
        except Exception as error:  # noqa: BLE001 - the body's: CrewAI would make the call again
            return raised(error)

    def _denied(self, error: GateError, returns: bool) -> Any:
        if self.on_denied == "raise" and not returns:
            raise error from error.__cause__
        return denied(self.name, error, self.on_denied)


class GovernedFunction:
    """A tool's ``func``, with the gate before it. It looks like the function it stands for."""

    def __init__(self, function: Callable[..., Any], governance: Governance) -> None:
        functools.update_wrapper(self, function)
        self.raw = function
        self.governance = governance

    def __repr__(self) -> str:
        return f"<governed {self.raw!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern the call; see :meth:`Governance.run`."""
        return self.governance.run(self.raw, args, kwargs)


class GovernedCoroutine(GovernedFunction):
    """Such a function that is a coroutine function."""

    # How asyncio tells, before Python 3.12, that calling this gives a coroutine.
    _is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    def __init__(self, function: Callable[..., Any], governance: Governance) -> None:
        super().__init__(function, governance)
        if mark := getattr(inspect, "markcoroutinefunction", None):
            mark(self)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern the call; see :meth:`Governance.arun`."""
        return await self.governance.arun(self.raw, args, kwargs)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
