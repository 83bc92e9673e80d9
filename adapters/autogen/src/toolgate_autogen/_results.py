"""Results on their way: what the gate is told, what is said beside them, how they come back."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from autogen_core.tools import ImageResultContent, TextResultContent, ToolResult
from pydantic_core import to_json

from toolgate_client import Result

_NOTES = 100
"""How many results wait at a time for somebody to ask how they are shown to a model."""


class Reported(Exception):
    """A workbench said that its tool failed: to the gate that is a failure, too."""

    def __init__(self, result: ToolResult) -> None:
        super().__init__(result.to_text(replace_image="[image]"))
        self.result = result


def checked(returned: Any) -> Any:
    """Return what a workbench returned; raises :class:`Reported` for an error result."""
    result = returned.output if isinstance(returned, Result) else returned
    if result.is_error:
        raise Reported(result)
    return returned


def record(result: ToolResult) -> dict[str, Any]:
    """Return what the gate is told: texts as they are, of an image its digest."""
    return {"content": [_part(part) for part in result.result]}


def restore(name: str, recorded: Any) -> ToolResult:
    """Return a recorded result as one that can be shown; an image has become a text."""
    parts = recorded.get("content", ()) if isinstance(recorded, dict) else (recorded,)
    texts = [_text(part) for part in parts]
    return ToolResult(name=name, result=[TextResultContent(content=text) for text in texts])


def error_result(name: str, text: str) -> ToolResult:
    """Return the result of a call that gave none."""
    return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=True)


def _part(part: TextResultContent | ImageResultContent) -> dict[str, str]:
    if isinstance(part, TextResultContent):
        return {"text": part.content}
    digest = hashlib.sha256(part.content.to_base64().encode()).hexdigest()
    return {"image": f"sha256:{digest}"}


def _text(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    return str(part["text"]) if "text" in part else f"[image {part.get('image')}]"


class Recorded:
    """A recorded result that could not be made a value of its tool's type again."""

    def __init__(self, recorded: Any) -> None:
        self.recorded = recorded

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The result as models are shown it."""
        return self.recorded if isinstance(self.recorded, str) else to_json(self.recorded).decode()


class Notes:
    """What is to be said of results, until they are shown to a model.

    A result is given to AutoGen as it is, so its note goes by its identity.
    """

    def __init__(self) -> None:
        self._notes: OrderedDict[int, tuple[Any, str]] = OrderedDict()

    def __reduce__(self) -> tuple[type[Notes], tuple[()]]:
        return Notes, ()

    def put(self, value: Any, note: str) -> Any:
        """Note something of a value; return the value to give away."""
        if type(value) is str:
            value = f"{value} "[:-1]  # another text that is the same
        self._notes[id(value)] = (value, note)
        while len(self._notes) > _NOTES:
            self._notes.popitem(last=False)
        return value

    def take(self, value: Any) -> str | None:
        """Return what was noted of this very value, once."""
        _, note = self._notes.pop(id(value), (None, None))
        return note
