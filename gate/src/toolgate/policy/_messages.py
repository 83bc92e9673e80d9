"""What the errors of the CEL binding mean, for somebody who writes rules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Set
from typing import Final

_GROUPS = ("tool", "agent", "session", "action")
_COMPILE_ERROR = re.compile(
    r"^(?:[A-Z_]+: )?ERROR: <input>:(-?\d+):(-?\d+): "
    r"(.*?)(?: \(in container ''\))?(?: expecting \{.*)?(?: \[[A-Z_]+\])?$",
    re.M,
)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_BAD_REGEX = "invalid regular expression"
_FUNCTIONS: Final = (
    *("all", "exists", "exists_one", "filter", "has", "map", "size", "type"),
    *("contains", "endsWith", "matches", "startsWith"),
    *("charAt", "indexOf", "join", "lastIndexOf", "lowerAscii", "replace", "reverse", "split"),
    *("substring", "trim", "upperAscii"),
    *("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "uint"),
    *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
    *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
)
"""What a misspelt function may have been meant to be."""
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


def explained(source: str, text: str, known: Set[str]) -> Iterator[str]:
    """Say what an error of compiling means: ``line:column: problem``.

    ``known`` are the full names of the variables.
    """
    found = False
    for line, column, said in _COMPILE_ERROR.findall(text):
        found = True
        name = _UNDECLARED.search(said)
        problem = _unknown_name(name[1], source, int(line), int(column), known) if name else said
        yield f"{line}:{column}: {problem}" if int(line) > 0 else problem
    if not found:
        yield bare(text.splitlines()[0])


def _unknown_name(name: str, source: str, line: int, column: int, known: Set[str]) -> str:
    if source.split("\n")[line - 1][column - 1 :].startswith("("):
        near = difflib.get_close_matches(name, _FUNCTIONS, n=1)
        return f"there is no function {name}" + (f": did you mean {near[0]}?" if near else "")
    group, _, rest = name.partition(".")
    fields = sorted(k.partition(".")[2] for k in known if k.startswith(f"{group}."))
    if group == "vars":
        have = f"they have {', '.join(fields)}" if fields else "there are none"
        what = f"policy.vars have no {rest}" if rest else "name one of policy.vars: vars.NAME"
        return f"{what} ({have})"
    if group in _GROUPS:
        what = f"{group} has no field {rest}" if rest else f"name a field of {group}"
        return f"{what} (it has {', '.join(fields)})"
    return (
        f"unknown name {group} (conditions know args, {', '.join(_GROUPS)}, state, history, "
        "vars, now, and the variables of their own macros)"
    )


def readable(text: str) -> str:
    """Shorten an error of the binding to what a rule's author can act on, without values."""
    text = bare(text)
    if text.startswith("Integer value"):
        return "an integer beyond 64 bits"
    if text.startswith(_BAD_REGEX):
        return _BAD_REGEX
    if text == "Iteration budget exceeded":
        return "the condition walks more than 10000 items"
    text = text.replace(" : ", ": ")[:200]
    return text if text.isprintable() else ascii(text)[1:-1]


def bare(text: str) -> str:
    """Return an error of the binding without its status codes."""
    return _STATUS.sub("", _STATUS.sub("", text))
