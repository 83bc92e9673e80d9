"""The tools that a client has registered, each with the operator's contract beside its schema."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from toolgate.errors import SchemaError, ToolgateError
from toolgate.ir import ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.policy.contracts import Contract
from toolgate.validation import Schema, SchemaProblem, compile_schema

MASK: Final = "the (redacted) value"
"""What is said of an argument in place of its value where the tool's contract hides any."""


class ToolConflict(ToolgateError):
    """A tool of this name is registered already, with another declaration."""


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A tool: what the client declares, what the operator says of it, and both schemas compiled."""

    declared: ToolSchema
    contract: Contract
    parameters: tuple[Schema, ...]
    returns: Schema | None

    def argument_problems(self, args: dict[str, JSONValue]) -> list[SchemaProblem]:
        """Return what is wrong with ``args`` under the client's and the operator's schema."""
        found = [problem for schema in self.parameters for problem in schema.problems(args)]
        return [self._shown(problem) for problem in found] if self.contract.redact else found

    def _shown(self, problem: SchemaProblem) -> SchemaProblem:
        """Return a problem without what is in a redacted argument, names of members included."""
        for pointer in self.contract.redact:
            if f"{problem.pointer}/".startswith(f"{pointer}/"):
                return SchemaProblem(pointer, f"{MASK} does not match the schema")
        return problem

    def result_problems(self, output: JSONValue) -> list[SchemaProblem]:
        """Return what is wrong with an output under the declared ``returns``, if there is one."""
        return [] if self.returns is None else self.returns.problems(output)


class ToolRegistry:
    """One connection's tools by name. Names are data: any text is a name, matched exactly."""

    def __init__(
        self, contract_of: Callable[[str], Contract], configured: Collection[str] = ()
    ) -> None:
        """``contract_of`` returns the operator's contract, or the conservative one.

        ``configured`` are the tools that the operator has spoken of.
        """
        self._contract_of = contract_of
        self._configured = configured
        self._tools: dict[str, RegisteredTool] = {}

    @property
    def known(self) -> set[str]:
        """The names of the tools that the operator has spoken of or the client has registered."""
        return {*self._configured, *self._tools}

    def knows(self, name: str) -> bool:
        """Tell whether the operator has spoken of a tool, or the client has registered it."""
        return name in self._configured or name in self._tools

    def contract(self, name: str) -> Contract:
        """Return a tool's contract, whether it is registered or not."""
        tool = self._tools.get(name)
        return self._contract_of(name) if tool is None else tool.contract

    def get(self, name: str) -> RegisteredTool | None:
        """Return a registered tool."""
        return self._tools.get(name)

    def register(self, declared: ToolSchema) -> tuple[RegisteredTool, bool]:
        """Register a tool and return it, and whether it is new; the same again changes nothing.

        Raises :class:`ToolConflict` for another declaration under a registered name, and
        :class:`SchemaError` for a schema that cannot be used.
        """
        known = self._tools.get(declared.name)
        if known is not None:
            if known.declared != declared:
                raise ToolConflict(
                    f"a tool named {declared.name!r} is registered already with another "
                    "description or schema; one name is one tool"
                )
            return known, False
        contract = self._contract_of(declared.name)
        mask = MASK if contract.redact else None
        schemas = [
            _compile(declared.name, "parameters", declared.parameters, mask),
            *(
                [_compile(declared.name, "the operator's parameters", contract.parameters, mask)]
                if contract.parameters is not None
                else []
            ),
        ]
        returns = (
            None
            if declared.returns is None
            else _compile(declared.name, "returns", declared.returns)
        )
        tool = RegisteredTool(declared, contract, tuple(schemas), returns)
        self._tools[declared.name] = tool
        return tool, True


def _compile(name: str, what: str, schema: dict[str, JSONValue], mask: str | None = None) -> Schema:
    try:
        return compile_schema(schema, mask)
    except SchemaError as error:
        raise SchemaError(f"tool {name!r}, {what}: {error}") from None
