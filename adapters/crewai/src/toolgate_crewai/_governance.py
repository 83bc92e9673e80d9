"""One call of a governed tool: what the gate is asked, what runs, what CrewAI gets."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from toolgate_client import GateClient, GateError
from toolgate_client._adapting.calls import Call, NoResult, not_json
from toolgate_client._adapting.edits import EditRefused
from toolgate_client._adapting.jsonvalues import check_sendable, same_json
from toolgate_client._adapting.options import OnDenied
from toolgate_crewai._arguments import ToolArguments
from toolgate_crewai._failures import denied, raised

Released: TypeAlias = Callable[[dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]

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
        try:
            call, released = self._call(args, kwargs)

            def enter(approved: dict[str, Any]) -> Any:
                positional, named = released(approved)
                result = body(*positional, **named)
                return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

            return replace(call, body=enter).run()
        except NoResult as none:
            return self._denied(none.error, returns)
        except Exception as error:  # noqa: BLE001 - the body's: CrewAI would make the call again
            return raised(error)

    async def arun(
        self, body: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Govern a call from a coroutine; the body runs in this task."""
        returns = kwargs.pop(RETURNS, False)
        try:
            call, released = self._call(args, kwargs)

            async def enter(approved: dict[str, Any]) -> Any:
                positional, named = released(approved)
                return await body(*positional, **named)

            return await replace(call, body=enter).arun()
        except NoResult as none:
            return self._denied(none.error, returns)
        except Exception as error:  # noqa: BLE001 - the body's: CrewAI would make the call again
            return raised(error)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Released]:
        """Return what to ask, without its body, and what the body is given when it may run."""
        arguments = self.arguments
        named = arguments.named(args, kwargs)
        try:
            proposed = arguments.to_json(named)
            check_sendable(proposed)
        except (TypeError, ValueError) as error:
            raise NoResult(not_json(error)) from error

        def released(approved: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if same_json(approved, proposed):
                return args, kwargs
            try:
                return (), arguments.edited(approved, proposed, named)
            except ValueError as error:
                raise EditRefused(error) from error

        call = Call(
            self.gate, self.name, proposed, None, hold=self.hold, hold_timeout=self.hold_timeout
        )
        return call, released

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
