"""Where in a LangGraph run a call is made: what names it across a resume, how it pauses the run.

LangGraph runs an interrupted node again from its top. What stays the same then, in this process and
the next, are the thread, the checkpoint namespace and the task, whose id LangGraph derives from the
checkpoint the node started at. They make the idempotency key, so that the gate knows the call. (A
process that dies is remembered as far as it was checkpointed: use ``durability="sync"``.)

The hold's interrupt is raised directly, not through ``langgraph.types.interrupt``, which hands a
resume value to whoever asks first, by position. A resume only wakes the graph; what it carries is
never read here, so it can neither approve a call nor shift the answers to a tool's own interrupts.
But LangGraph keeps it, in the checkpoint, for the next who asks. So it is taken away.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from toolgate_client._adapting.calls import Ask, Steps
from toolgate_client._adapting.jsonvalues import canonical

# Keys LangGraph puts into a task's `configurable`.
_CHECKPOINTER = "__pregel_checkpointer"
_TASK = "__pregel_task_id"
_SCRATCHPAD = "__pregel_scratchpad"
_RUNTIME = "__pregel_runtime"
_AT = "checkpoint_map"

# How LangGraph writes down, beside a checkpoint, what a task has asked and what it was answered.
_ASKED = "__interrupt__"
_ANSWERED = "__resume__"
_NO_TASK = "00000000-0000-0000-0000-000000000000"

APPROVAL = "tool_approval"
"""The type of an interrupt's value that asks for an approval, as LangChain has it."""

# How often each call has been made by the current attempt at its task. The key is a function that
# LangGraph makes for each execution of a task and drops with it.
_made: weakref.WeakKeyDictionary[Callable[..., Any], tuple[int, dict[bytes, int]]]
_made = weakref.WeakKeyDictionary()
_made_lock = threading.Lock()


class Place:
    """One execution of a task of a checkpointed graph.

    A graph without a checkpointer never comes back to a call, so it is no place.
    """

    def __init__(self, configurable: Mapping[str, Any]) -> None:
        self._configurable = configurable
        self._scratchpad = configurable.get(_SCRATCHPAD)
        self._attempt = _attempt(configurable.get(_RUNTIME))
        self._task = str(configurable.get(_TASK))
        self._name = [
            str(configurable.get("thread_id")),
            str(configurable.get("checkpoint_ns")),
            self._task,
        ]

    def keys(self, *call: Any) -> Iterator[str]:
        """Yield idempotency keys for a call: the first, then one for each further attempt.

        A node that makes the very same call twice gets two keys, and gets the same two when it runs
        again. Raises ``ValueError`` or ``TypeError`` when ``call`` is not JSON.
        """
        name = canonical([*self._name, *call])
        while True:
            digest = hashlib.sha256(name + b"#" + str(self._count(name)).encode()).hexdigest()
            yield f"langgraph:{digest}"

    def interrupt(self, value: Mapping[str, Any], *, uid: str) -> NoReturn:
        """Pause the graph, showing ``value``; the same action always has the same interrupt id."""
        from langgraph.errors import GraphInterrupt
        from langgraph.types import Interrupt

        name = canonical([*self._name, uid])
        # 32 hexadecimal digits: the form by which LangGraph tells a map of answers from an answer.
        interrupt_id = hashlib.blake2b(name, digest_size=16).hexdigest()
        raise GraphInterrupt((Interrupt(value=dict(value), id=interrupt_id),))

    def take_wake_up(self) -> Steps[None]:
        """Take away the value that the graph was resumed with, if it only ends a hold's pause.

        It does when the task has paused for nothing but holds: whatever asks next in this task, the
        body or the node itself, has not been answered yet.
        """
        if self._scratchpad is None or self._scratchpad.get_null_resume(False) is None:
            return
        saver, graphs = self._configurable[_CHECKPOINTER], self._graphs()
        saved = yield Ask(saver, "get_tuple", graphs[-1])
        if saved is None or not self._paused_for_holds(saved.pending_writes or ()):
            return
        for graph in graphs:  # the value is written where it came in: often in an outer graph
            saved = yield Ask(saver, "get_tuple", graph)
            writes = (saved and saved.pending_writes) or ()
            if any(task == _NO_TASK and kind == _ANSWERED for task, kind, _ in writes):
                yield Ask(saver, "put_writes", saved.config, [(_ANSWERED, None)], _NO_TASK)
        self._scratchpad.get_null_resume(True)

    def _graphs(self) -> list[dict[str, Any]]:
        """Name the checkpoints that the graphs around this task are at, the outermost first."""
        thread, at = self._configurable.get("thread_id"), self._configurable.get(_AT) or {"": None}
        return [
            {
                "configurable": {
                    "thread_id": thread,
                    "checkpoint_ns": namespace,
                    "checkpoint_id": at[namespace],
                }
            }
            for namespace in sorted(at, key=len)
        ]

    def _paused_for_holds(self, writes: Iterable[tuple[str, str, Any]]) -> bool:
        """Tell whether the task's last pause asked nothing but what the gate's approvers answer."""
        asked = [
            each.value
            for task, kind, interrupts in writes
            if task == self._task and kind == _ASKED
            for each in interrupts
        ]
        return bool(asked) and all(
            isinstance(value, dict) and value.get("type") == APPROVAL and "hold" in value
            for value in asked
        )

    def _count(self, name: bytes) -> int:
        if self._scratchpad is None:
            return 0
        with _made_lock:
            attempt, counts = _made.get(self._scratchpad.get_null_resume, (0, {}))
            if attempt != self._attempt:  # a retried task makes its calls from the first again
                attempt, counts = self._attempt, {}
            number = counts.get(name, 0)
            counts[name] = number + 1
            _made[self._scratchpad.get_null_resume] = attempt, counts
            return number


def current_place(config: RunnableConfig | None = None) -> Place | None:
    """Return where this call is made, or ``None`` outside any task of a checkpointed graph.

    ``config`` is used where the context does not say (coroutines before Python 3.11).
    """
    for known in (var_child_runnable_config.get(), config):
        configurable = (known or {}).get("configurable") or {}
        if configurable.get(_TASK) and configurable.get(_CHECKPOINTER):
            return Place(configurable)
    return None


def _attempt(runtime: Any) -> int:
    """Return which attempt at the task this is: 1, or more under a retry policy."""
    return getattr(getattr(runtime, "execution_info", None), "node_attempt", 1)
