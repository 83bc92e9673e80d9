"""What the commands share: the config option, printing for people and for machines, exit codes.

What agents wrote is shown to people who decide on it, so nothing in it may act on their terminal:
every character that does not print is shown by its number.

A terminal has a width, which tables are fitted into. A pipe or a file has none: there a row is one
line, whole and without colours, whatever its length.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from toolgate.config import GateConfig, load_config
from toolgate.errors import ToolgateError
from toolgate.jsonvalue import JSONValue

NO = 1
BAD_INPUT = 2

ConfigOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="TOOLGATE_CONFIG", help="The gate's config file.", metavar="FILE"
    ),
]
JSONOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
AsOption: TypeAlias = Annotated[str, typer.Option("--as", metavar="ID", help="Who signs it.")]
KeyOption: TypeAlias = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="The private key of the one who signs.")
]

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

_UNBOUNDED = 1 << 20
"""Characters: wider than what is printed at its own width."""


@contextmanager
def reported() -> Iterator[None]:
    """Report the gate's own errors on stderr, and exit with 2."""
    try:
        yield
    except ToolgateError as error:
        errors.print(Text.assemble(("error: ", "bold red"), printable(str(error))), soft_wrap=True)
        raise typer.Exit(BAD_INPUT) from None


def config_of(path: Path) -> GateConfig:
    """Load the deployment's config, for use inside :func:`reported`."""
    return load_config(path)


def printable(text: str) -> str:
    """Return ``text`` with everything that does not print, but line ends, shown by its number."""
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\u{{{ord(char):x}}}" for char in text
    )


def one_line(text: object) -> str:
    """Return any value's text, safe to print, and on one line."""
    return printable(str(text)).replace("\n", "\\n")


def pretty(value: JSONValue) -> str:
    """Return a JSON value for people to read, safe to print."""
    return printable(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def print_json(value: JSONValue) -> None:
    """Print one JSON value as one line, in ASCII."""
    sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")


def print_text(text: str) -> None:
    """Print a text that is safe to print exactly as it is, for a file or a pipe too."""
    sys.stdout.write(text + "\n")


def print_line(line: Text) -> None:
    """Print one line: with its colours in a terminal, plain and whole elsewhere."""
    if in_terminal():
        console.print(line, no_wrap=True)
    else:
        print_text(_plain(line).rstrip())


def in_terminal() -> bool:
    """Tell whether what is printed goes to a terminal, not into a pipe or a file."""
    return console.file.isatty()


def print_table(shown: Table | Panel) -> None:
    """Print a table, fitted into the terminal; elsewhere nothing of it is wrapped or cut."""
    if in_terminal():
        console.print(shown)
    elif isinstance(shown, Table) and shown.box is None:
        _print_rows(shown)
    else:
        options = console.options.update(width=_UNBOUNDED)
        width = Measurement.get(console, options, shown).maximum
        plain = Console(file=console.file, width=width, highlight=False, color_system=None)
        plain.print(shown)


def _print_rows(table: Table) -> None:
    """Print a table as one line a row, each column as wide as its widest cell but the last."""
    columns = [[_plain(cell) for cell in (col.header, *col.cells)] for col in table.columns]
    widths = [max(map(cell_len, cells)) for cells in columns[:-1]]
    for cells in zip(*columns, strict=True):
        padded = [
            cell + " " * (width - cell_len(cell))
            for cell, width in zip(cells, widths, strict=False)
        ]
        print_text("  ".join([*padded, cells[-1]]).rstrip())


def _plain(cell: RenderableType) -> str:
    text = cell if isinstance(cell, Text) else console.render_str(str(cell))
    return one_line(text.plain)
