"""The results as a table for people and as JSON for programs, with the machine they are of."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import IO, Any, Final

from reading import Reading, Target
from rich.console import Console
from rich.table import Table
from states import State

_PACKAGES: Final = (
    "toolgate",
    "toolgate-client",
    "cel-expr-python",
    "cryptography",
    "jiter",
    "jsonschema-rs",
    "orjson",
    "pydantic",
    "uvloop",
)
_WIDTH: Final = 150
_VERDICT: Final = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}


@dataclass(frozen=True, slots=True)
class Result:
    """A reading, and where it comes from."""

    figure: str
    state: State
    reading: Reading


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        "platform": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in _PACKAGES},
        "load_average": list(os.getloadavg()),
    }


def write_json(file: IO[str], results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write everything."""
    document = {**about, "results": [_result(result) for result in results]}
    json.dump(document, file, indent=1, ensure_ascii=False, allow_nan=False)
    file.write("\n")


def print_table(results: Sequence[Result], about: dict[str, Any]) -> None:
    """Print everything that a person wants to see."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    host = about["machine"]
    one, five, fifteen = host["load_average"]
    console.print(
        f"{host['cores']} cores, {host['python']}, SQLite {host['sqlite']}, {host['platform']}\n"
        f"load average before: {one:.2f} {five:.2f} {fifteen:.2f} · {about['mode']} mode · "
        f"{about['seconds']:.0f} s · medians, with the quartiles of the ratio over the rounds"
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure", no_wrap=not console.is_terminal)
    table.add_column("state")
    for column in ("subject", "floor", "ratio", "target"):
        table.add_column(column, justify="right")
    table.add_column("ok?")
    last = None
    for result in results:
        if last is not None and result.figure != last:
            table.add_row()
        last = result.figure
        table.add_row(*_row(result))
    console.print(table)


def _row(result: Result) -> list[str]:
    reading, state = result.reading, result.state
    target = (reading.targets or {}).get(state)
    unit = reading.unit
    what = reading.what if reading.floor_is is None else f"{reading.what} / {reading.floor_is}"
    return [
        what,
        state,
        f"{_number(reading.value)} {unit}",
        "" if reading.floor is None else f"{_number(reading.floor)} {unit}",
        _ratio(reading),
        "" if target is None else _bound(target, unit),
        _VERDICT[reading.met(state)],
    ]


def _ratio(reading: Reading) -> str:
    if reading.ratio is None:
        return ""
    return f"{reading.ratio:.2f} ({reading.low:.2f}–{reading.high:.2f})"


def _bound(target: Target, unit: str) -> str:
    sign = "≥" if target.at_least else "≤"
    return f"{sign} {target.bound:g} {'×' if target.of == 'ratio' else unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _result(result: Result) -> dict[str, Any]:
    reading, state = result.reading, result.state
    target = (reading.targets or {}).get(state)
    return {
        "figure": result.figure,
        "what": reading.what,
        "state": state,
        "unit": reading.unit,
        "subject": reading.value,
        "floor_is": reading.floor_is,
        "floor": reading.floor,
        "ratio": reading.ratio,
        "ratio_quartiles": None if reading.ratio is None else [reading.low, reading.high],
        "target": None if target is None else _bound(target, reading.unit),
        "ok": reading.met(state),
    }
