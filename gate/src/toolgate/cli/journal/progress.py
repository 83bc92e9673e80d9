"""How far a long command has come: on stderr, and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from toolgate.cli.terminal import errors


@contextmanager
def progress(total: int, of: str, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how many ``of`` a total are done; gives what is to be called with their number."""
    with Progress(
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {of}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not (shown and errors.is_terminal),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
