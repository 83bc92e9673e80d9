"""Where in a LangGraph run a call is made: what names it across a resume, how it pauses the run.

LangGraph runs an interrupted node again from its top. What stays the same then, in this process and
the next, are the thread, the checkpoint namespace and the task, whose id LangGraph derives from the
checkpoint the node started at. They make the idempotency key, so that the gate knows the call. (A
process that dies is remembered as far as it was checkpointed: use ``durability="sync"``.)

The hold's interrupt is raised directly, not through ``langgraph.types.interrupt``, which hands a
resume value to whoever asks first, by position. A resume only wakes the graph; what it carries is
never read here, so it can neither approve a call nor shift the answers to a tool's own interrupts.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from toolgate_client._adapting.jsonvalues import canonical

# Keys LangGraph puts into a task's `configurable`.
_CHECKPOINTER = "__pregel_checkpointer"
_TASK = "__pregel_task_id"
_SCRATCHPAD = "__pregel_scratchpad"
_RUNTIME = "__pregel_runtime"

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
        self._scratchpad = configurable.get(_SCRATCHPAD)
        self._attempt = _attempt(configurable.get(_RUNTIME))
        self._name = [
            str(configurable.get("thread_id")),
            str(configurable.get("checkpoint_ns")),
            str(configurable.get(_TASK)),
        ]

    def keys(self, *call: Any) -> Iterator[tuple[int, str]]:
        """Yield numbered idempotency keys for a call: the first, then one for each further attempt.

        A node that makes the very same call twice gets two keys, and gets the same two when it runs
        again. Raises ``ValueError`` or ``TypeError`` when ``call`` is not JSON.
        """
        name = canonical([*self._name, *call])
        while True:
            number = self._count(name)
            digest = hashlib.sha256(name + b"#" + str(number).encode()).hexdigest()
            yield number, f"langgraph:{digest}"

    def interrupt(self, value: Mapping[str, Any], *, uid: str) -> NoReturn:
        """Pause the graph, showing ``value``; the same action always has the same interrupt id."""
        from langgraph.errors import GraphInterrupt
        from langgraph.types import Interrupt

        name = canonical([*self._name, uid])
        # 32 hexadecimal digits: the form by which LangGraph tells a map of answers from an answer.
        interrupt_id = hashlib.blake2b(name, digest_size=16).hexdigest()
        raise GraphInterrupt((Interrupt(value=dict(value), id=interrupt_id),))

    def drop_resume_value(self) -> None:
        """Forget the value the graph was resumed with.

        It answered the hold: a body that asks a question of its own must not take it for an answer.
        """
        if self._scratchpad is not None:
            self._scratchpad.get_null_resume(True)

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
