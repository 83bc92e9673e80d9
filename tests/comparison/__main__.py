"""Runs the comparison and prints its tables; with ``--write`` it puts them into the docs' page.

Run as ``PYTHONPATH=tests python -m comparison [--only NAME] [--write] [--no-times]``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from comparison.page import NAMES, PAGE, blocks, put, times
from comparison.running import PROGRAMS, run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m comparison", description=__doc__)
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="(repeatable)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--no-times", action="store_true", help="measure no times")
    options = parser.parse_args()
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="toolgate-comparison-") as temporary:
        folder = Path(temporary)
        names = options.only or list(PROGRAMS)
        for name in names:
            made |= blocks(name, run(name, folder / name))
        if not options.no_times and not options.only:
            measured = {name: run(name, folder / f"{name}-times", time=True) for name in NAMES}
            made["times"] = times(measured)
    for name, block in made.items():
        print(f"\n{name}\n\n{block}")
    if options.write:
        text = PAGE.read_text()
        for name, block in made.items():
            text = put(text, name, block)
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
