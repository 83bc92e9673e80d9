"""What governance costs: measures every figure against its floor, and prints a table.

A missed target is reported and is no failure: the exit code is 0 when everything was measured, 2
for wrong use, 1 when something broke.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from figures import FIGURES
from measure import FULL, QUICK, SMOKE, Plan
from report import Result, machine, print_table, write_json
from states import state


def main() -> None:
    """Run the command line."""
    options = _options()
    # A terminated program, too, ends what it started and removes what it wrote.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = {"full": FULL, "quick": QUICK, "smoke": SMOKE}[options.mode]
    about = {"mode": options.mode, "machine": machine()}
    started = time.perf_counter()
    figures = [name for name in FIGURES if not (FIGURES[name].long and plan is QUICK)]
    results = measure(options.only or figures, plan)
    about["seconds"] = round(time.perf_counter() - started, 1)
    print_table(results, about)
    if options.json is not None:
        with options.json.open("w", encoding="utf-8") as file:
            write_json(file, results, about)


def measure(names: Iterable[str], plan: Plan) -> list[Result]:
    """Measure some figures, each in a new folder and in every state it has."""
    results = []
    for name in names:
        figure = FIGURES[name]
        with (
            tempfile.TemporaryDirectory(prefix="toolgate-bench-") as folder,
            figure.prepare(plan, Path(folder)) as prepared,
        ):
            for which in figure.states:
                if sys.stderr.isatty():
                    print(f"measuring {name}, {which} …", file=sys.stderr)
                with state(which, prepared.others):
                    results += [Result(name, which, reading) for reading in prepared.measure()]
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.set_defaults(mode="full")
    modes = parser.add_mutually_exclusive_group()
    for mode, text in (
        ("quick", "less of everything: a minute, and more noise"),
        ("smoke", "least of everything: tells whether the program works, and nothing else"),
    ):
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=text)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there, too")
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=FIGURES,
        help=f"measure this figure (repeatable): {', '.join(FIGURES)}",
    )  # fmt: skip
    options = parser.parse_args()
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    main()
