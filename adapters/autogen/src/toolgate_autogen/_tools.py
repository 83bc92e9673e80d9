"""Governed tools: they look like the original, ask the gate, and then call the original."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from autogen_core import CancellationToken, Component, ComponentModel
from autogen_core.tools import BaseStreamTool, BaseTool, ToolSchema
from pydantic import BaseModel, TypeAdapter

from toolgate_autogen._arguments import Arguments, ToolArguments
from toolgate_autogen._governance import Governance, Refused
from toolgate_autogen._registry import note_body
from toolgate_autogen._results import Notes, Recorded
from toolgate_autogen._streams import Emit, last_of, stream
from toolgate_client import GateClient
from toolgate_client._adapting.calls import not_json
from toolgate_client._adapting.messages import of_edit

T = TypeVar("T", bound="GovernedTool")
Enter = Callable[[dict[str, Any]], Awaitable[Any]]


class GovernedToolConfig(BaseModel):
    """A governed tool's config: the original's, its name at the gate, and its options.

    A function given as ``on_denied`` is not in it.
    """

    original: ComponentModel
    name: str
    hold: Literal["wait", "return"] = "wait"
    hold_timeout: float | None = None
    on_denied: Literal["raise"] | None = None


class GovernedTool(BaseTool[BaseModel, Any], Component[GovernedToolConfig]):
    """A tool that asks a gate before it runs; made by :func:`govern_tools`.

    All that AutoGen asks a tool is answered by the original, and so is every public attribute that
    only the original has. A copy is governed by the same gate. One that was unpickled, or loaded
    from a component, has no gate, and denies every call until :meth:`bind` gives it one.
    """

    component_type = "tool"
    component_provider_override = "toolgate_autogen.GovernedTool"
    component_config_schema = GovernedToolConfig

    def __init__(self, original: BaseTool[Any, Any], governance: Governance, name: str) -> None:
        self._original = original
        self._governance = governance
        self._gate_name = name
        self._arguments = ToolArguments(original)
        self._notes = Notes()

    def __repr__(self) -> str:
        return f"<governed {self._original!r}>"

    @property
    def gate(self) -> GateClient | None:
        """The gate that governs this tool; ``None``: it denies every call."""
        return self._governance.gate

    def bind(self, gate: GateClient) -> None:
        """Register the tool with a gate, and ask that gate from now on.

        Raises ``ValueError`` when another gate governs it; ``ProtocolError`` and ``GateClosed`` as
        :func:`govern_tools` does.
        """
        if self._governance.gate not in {None, gate}:
            raise ValueError(
                f"the tool {self._gate_name!r} is governed by another gate; govern the original"
            )
        body = Detached(self)
        gate.register_tool(
            self._gate_name,
            body,
            description=self.description or None,
            parameters=self._arguments.schema,
        )
        note_body(gate, self._gate_name, body)
        self._governance.gate = gate

    # --- as the original says

    @property
    def name(self) -> str:
        """The original's name."""
        return self._original.name

    @property
    def description(self) -> str:
        """The original's description."""
        return self._original.description

    @property
    def schema(self) -> ToolSchema:
        """What models are shown of the original."""
        return self._original.schema

    def args_type(self) -> type[BaseModel]:
        """Return the model of the original's arguments."""
        return self._original.args_type()

    def return_type(self) -> type[Any]:
        """Return the type of the original's results."""
        return self._original.return_type()

    def state_type(self) -> type[BaseModel] | None:
        """Return the model of the original's state."""
        return self._original.state_type()

    def return_value_as_string(self, value: Any) -> str:
        """Return a result as models are shown it, and whether a person has edited the call."""
        note = self._notes.take(value)
        if isinstance(value, Recorded):
            text = value.text
        else:
            text = self._original.return_value_as_string(value)
        return text if note is None else f"{text}\n{note}"

    async def save_state_json(self) -> Mapping[str, Any]:
        """Return the original's state."""
        return await self._original.save_state_json()

    async def load_state_json(self, state: Mapping[str, Any]) -> None:
        """Give the original its state back."""
        await self._original.load_state_json(state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in {"run_stream", "run_json_stream"}:  # would not ask
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._original, name)

    # --- calls

    async def run_json(
        self,
        args: Mapping[str, Any],
        cancellation_token: CancellationToken,
        call_id: str | None = None,
    ) -> Any:
        """Ask the gate, and call the original with what it releases."""
        arguments = self._read(args, call_id)
        named = {} if call_id is None else {"call_id": call_id}

        async def enter(released: dict[str, Any]) -> Any:
            given = arguments.as_json(released)
            return await self._original.run_json(given, cancellation_token, **named)

        return await self._call(arguments, enter, cancellation_token, call_id)

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> Any:
        """Do the same for own code that has validated the arguments."""
        arguments = self._of(args)

        async def enter(released: dict[str, Any]) -> Any:
            return await self._original.run(arguments.as_model(released), cancellation_token)

        return await self._call(arguments, enter, cancellation_token, None)

    async def _call(
        self,
        arguments: Arguments,
        enter: Enter,
        token: CancellationToken,
        call_id: str | None,
    ) -> Any:
        try:
            value, outcome = await self._governance.call(
                self._gate_name,
                arguments.proposed,
                enter,
                token,
                call_id,
                record=self._record,
                restore=self._restore,
            )
        except Refused as refused:
            raise refused.as_error() from refused.error.__cause__
        if outcome.edited_args is not None:
            return self._notes.put(value, of_edit(outcome.edited_args))
        return value

    def _read(self, args: Any, call_id: str | None) -> Arguments:
        self._arguments.model.model_validate(args)  # the tool's own refusal comes first
        try:
            return self._arguments.read(args)
        except (TypeError, ValueError) as error:
            raise self._not_json(error, call_id) from error

    def _of(self, args: BaseModel) -> Arguments:
        try:
            return self._arguments.of(args)
        except (TypeError, ValueError) as error:
            raise self._not_json(error, None) from error

    def _not_json(self, error: Exception, call_id: str | None) -> Exception:
        return self._governance.refused(self._gate_name, not_json(error), call_id).as_error()

    def _record(self, value: Any) -> Any:
        """Return what the gate is told of a result."""
        return value

    def _restore(self, recorded: Any) -> Any:
        """Return a recorded result as a value of the tool's type, if it can be made one."""
        try:
            return TypeAdapter(self.return_type()).validate_python(recorded)
        except Exception:  # noqa: BLE001 - the type is the tool's own code
            return Recorded(recorded)

    async def run_detached(self, released: dict[str, Any]) -> Any:
        """Run the tool for an action that nobody's call waits for, such as one resumed by its uid.

        Raises ``EditRefused`` for arguments that the tool's own schema does not take.
        """
        given: Any = self._arguments.edited(released, None)
        return self._record(await self._original.run_json(given, CancellationToken()))

    def shown(self, value: Any, live: bool) -> str:
        """Return the result of such an action as models are shown it; ``live``: it ran here."""
        return self.return_value_as_string(value if live else self._restore(value))

    # --- as a component

    def _to_config(self) -> GovernedToolConfig:
        known = self._governance
        return GovernedToolConfig.model_validate(
            {
                "original": self._original.dump_component(),
                "name": self._gate_name,
                "hold": known.hold,
                "hold_timeout": known.hold_timeout,
                "on_denied": "raise" if known.on_denied == "raise" else None,
            }
        )

    @classmethod
    def _from_config(cls: type[T], config: GovernedToolConfig) -> T:
        original: BaseTool[Any, Any] = BaseTool.load_component(config.original)
        governance = Governance(None, config.hold, config.hold_timeout, config.on_denied)
        return cls(original, governance, config.name)


class GovernedStreamTool(GovernedTool, BaseStreamTool[BaseModel, Any, Any]):
    """A governed tool whose original streams: what that yields is yielded when it comes.

    The last value, which is the result, comes when the gate has recorded that the call ended.
    """

    component_type = "tool"
    component_provider_override = "toolgate_autogen.GovernedStreamTool"
    component_config_schema = GovernedToolConfig

    _original: BaseStreamTool[Any, Any, Any]

    def _record(self, value: Any) -> Any:
        """Return the result as models are shown it: its messages are AutoGen's own objects."""
        try:
            return self._original.return_value_as_string(value)
        except Exception:  # noqa: BLE001 - it is the tool's own code
            return value

    def _restore(self, recorded: Any) -> Any:
        return Recorded(recorded)

    def shown(self, value: Any, live: bool) -> str:
        """Return the result of an action that nobody's call waited for, as models are shown it."""
        return Recorded(value).text

    async def run_json_stream(
        self,
        args: Mapping[str, Any],
        cancellation_token: CancellationToken,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Ask the gate, and stream what the original does with what it releases."""
        arguments = self._read(args, call_id)
        named = {} if call_id is None else {"call_id": call_id}

        def produce(released: dict[str, Any]) -> AsyncGenerator[Any, None]:
            given = arguments.as_json(released)
            return self._original.run_json_stream(given, cancellation_token, **named)

        async with aclosing(
            self._stream(arguments, produce, cancellation_token, call_id)
        ) as values:
            async for value in values:
                yield value

    async def run_stream(
        self, args: BaseModel, cancellation_token: CancellationToken
    ) -> AsyncGenerator[Any, None]:
        """Do the same for own code that has validated the arguments."""
        arguments = self._of(args)

        def produce(released: dict[str, Any]) -> AsyncGenerator[Any, None]:
            return self._original.run_stream(arguments.as_model(released), cancellation_token)

        async with aclosing(self._stream(arguments, produce, cancellation_token, None)) as values:
            async for value in values:
                yield value

    def _stream(
        self,
        arguments: Arguments,
        produce: Callable[[dict[str, Any]], AsyncGenerator[Any, None]],
        token: CancellationToken,
        call_id: str | None,
    ) -> AsyncGenerator[Any, None]:
        async def work(emit: Emit) -> Any:
            async def enter(released: dict[str, Any]) -> Any:
                return await last_of(produce(released), emit, self.return_type())

            return await self._call(arguments, enter, token, call_id)

        return stream(work)


class Detached:
    """The registered body of a governed tool: runs it where nobody's call does."""

    def __init__(self, tool: GovernedTool) -> None:
        self._tool = tool

    async def __call__(self, released: dict[str, Any]) -> Any:
        """Run the tool with what the gate releases."""
        return await self._tool.run_detached(released)

    def shown(self, value: Any, live: bool) -> str:
        """Return the result of such an action as models are shown it; ``live``: it ran here."""
        return self._tool.shown(value, live)
