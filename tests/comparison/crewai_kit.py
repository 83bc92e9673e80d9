"""What the cases of CrewAI are made of. In an environment that has CrewAI."""

from __future__ import annotations

import contextvars
import re
import warnings
from collections.abc import Callable
from typing import Any

from crewai.tools import BaseTool

from comparison.cases import (
    Run,
    runs,
    short,
)
from comparison.hooks import Hook
from support.crewai_crews import (
    crew,
    ran,
)

warnings.simplefilter("ignore")

INTRODUCTION = "I encountered an error while trying to use the tool. This was the error:"
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def in_loops(
    add: Callable[[str], Callable[[Run], Run]], title: str
) -> Callable[[Callable[[Hook, bool], str]], None]:
    """Add a case for each way a model calls tools; it is told whether that is the native one."""

    def adder(run: Callable[[Hook, bool], str]) -> None:
        # Tools of the two have names of their own, which end in _n or _r.
        add(f"{title}, native")(lambda hook: re.sub(r"_[nr]\b", "", run(hook, True)))
        add(f"{title}, ReAct")(lambda hook: re.sub(r"_[nr]\b", "", run(hook, False)))

    return adder


def outcome(seen: dict[str, Any]) -> str:
    """Return how a crew ended: what the model was told, and how often bodies ran."""
    last = seen["told"][-1] if seen["told"] else f"ends with {seen['answer']}"
    return f"{runs(len(ran))}; {told_by(last)}"


def told_by(text: str) -> str:
    """Return what a model was told, without how CrewAI introduces an exception."""
    return short(text.replace(INTRODUCTION, "…"))


def one(hook: Hook, made: BaseTool, args: dict[str, Any], native: bool, **options: Any) -> str:
    """Run a crew whose model makes one call, of a governed tool."""
    ran.clear()
    (governed,) = hook.govern([made], **options)
    name = governed.name.lower().replace(" ", "_")
    return outcome(crew([governed], [(name, args)], native=native))
