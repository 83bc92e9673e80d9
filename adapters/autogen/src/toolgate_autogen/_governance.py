"""One call of a governed tool: what the gate is asked, what runs, what is said without a result."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from autogen_core import CancellationToken

from toolgate_autogen._holds import note_held
from toolgate_autogen._tokens import Watch
from toolgate_client import (
    ActionDenied,
    ActionHeld,
    GateClient,
    GateError,
    Outcome,
    ToolSuspended,
)
from toolgate_client._adapting.calls import Call, NoResult
from toolgate_client._adapting.messages import details_of, explain, kind_of, own_words
from toolgate_client._adapting.options import OnDenied


class Refused(Exception):
    """A call gave no result, and not because its body raised.

    ``error`` says why to programs, ``text`` to a model.
    """

    def __init__(self, error: GateError, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text

    def as_error(self) -> GateError:
        """Return the error with the text for a model, which is what AutoGen shows it."""
        worded = copy.copy(self.error)
        worded.args = (self.text,)
        return worded


@dataclass(frozen=True)
class AgentCall(Call):
    """What an agent asks of the gate. It gives the value of a call and the outcome it had."""

    record_as: Callable[[Any], Any] | None = None
    restore_from: Callable[[Any], Any] | None = None

    def record(self, value: Any) -> Any:
        """Return what the gate is told of a result."""
        return value if self.record_as is None else self.record_as(value)

    def restore(self, recorded: Any) -> Any:
        """Return a recorded result as the body returned it, as far as that can be."""
        return recorded if self.restore_from is None else self.restore_from(recorded)

    def deliver(self, outcome: Outcome, value: Any) -> tuple[Any, Outcome]:
        """Return the value, and how the call went."""
        return value, outcome

    def raised(self, outcome: Outcome, error: Exception) -> Exception:
        """Say of a body that stopped itself that its call goes on later, and under which uid."""
        if not isinstance(error, ToolSuspended):
            return error
        held = ActionHeld(
            str(error),
            kind="proposed",
            reason=str(error),
            uid=outcome.uid,
            hold=outcome.hold,
            outcome=outcome,
        )
        held.__cause__ = error
        return NoResult(held)


class Governance:
    """What a governed tool or workbench knows besides the original: its gate and its options.

    ``gate`` is ``None`` until somebody binds one; then every call is denied.
    """

    def __init__(
        self, gate: GateClient | None, hold: str, hold_timeout: float | None, on_denied: OnDenied
    ) -> None:
        self.gate = gate
        self.hold = hold
        self.hold_timeout = hold_timeout
        self.on_denied = on_denied

    def __copy__(self) -> Governance:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Governance:
        return self  # a copied tool is governed by the same gate

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "gate": None}  # another process has none

    async def call(
        self,
        tool: str,
        args: dict[str, Any],
        enter: Callable[[dict[str, Any]], Awaitable[Any]],
        token: CancellationToken,
        call_id: str | None,
        *,
        record: Callable[[Any], Any] | None = None,
        restore: Callable[[Any], Any] | None = None,
    ) -> tuple[Any, Outcome]:
        """Govern a call in this task; return what its body returned, and how the call went.

        ``enter`` takes the arguments that the gate releases. Raises what it raises, and else
        :class:`Refused`.
        """
        if self.gate is None:
            unbound = GateError("it was restored without one; bind(gate, tools) gives it one")
            raise self.refused(tool, unbound, call_id)
        if token.is_cancelled():
            raise self.refused(tool, _cancelled(), call_id)
        watch = Watch(token)

        async def body(released: dict[str, Any]) -> Any:
            watch.body_begins()
            return await enter(released)

        call = AgentCall(
            gate=self.gate,
            tool=tool,
            args=args,
            body=body,
            hold=self.hold,
            hold_timeout=self.hold_timeout,
            record_as=record,
            restore_from=restore,
        )
        try:
            value, outcome = await call.arun()
        except NoResult as none:
            raise self.refused(tool, none.error, call_id) from none.error.__cause__
        except asyncio.CancelledError:
            if not watch.takes_back():
                raise
            # Raised as it is, it would keep the agent waiting for its tools for ever.
            raise self.refused(tool, _cancelled(), call_id) from None
        finally:
            watch.over()
        return value, outcome

    def refused(self, tool: str, error: GateError, call_id: str | None) -> Refused:
        """Return a call without a result as it is told, and note a hold for who stops at it."""
        refused = Refused(error, self._worded(tool, error))
        if isinstance(error, ActionHeld):
            note_held(call_id, refused.text, error)
        return refused

    def _worded(self, tool: str, error: GateError) -> str:
        if (words := own_words(self.on_denied, error)) is not None:
            return words
        if self.on_denied == "raise":
            return str(error)
        text = explain(tool, error)
        waits = kind_of(error) in {"held", "executing", "proposed"}
        uid = details_of(error).get("uid") if waits else None
        return f"{text} Its uid is {uid}." if uid else text


def _cancelled() -> ActionDenied:
    reason = "its run was cancelled"
    return ActionDenied(reason, kind="cancelled", reason=reason)
