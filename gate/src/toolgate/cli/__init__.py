"""The ``toolgate`` command. One module a command; what they do is done elsewhere.

Exit codes: 0 fine, 1 the answer is no, 2 wrong use or bad input.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from toolgate import faults

_CANNOT_TELL = 2


def main() -> None:
    """Run the command line and exit."""
    try:
        faults.arm(os.environ)
    except faults.FaultError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(_CANNOT_TELL)
    # What clients start must be ready soon: it needs none of the terminal's libraries, and until it
    # serves there is next to no garbage, which took the collector a sixth of the start to find.
    match sys.argv[1:]:
        case ["serve", "--config", config]:
            gc.disable()
            from toolgate.cli.serve import serve

            sys.exit(serve(config))
        case ["runtime", "gate", "--config", config]:
            gc.disable()
            from toolgate.cli.runtime import gate

            sys.exit(gate(config))
    from toolgate.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the terminal's encoding lacks is shown by its number, like what does not print.
            stream.reconfigure(errors="backslashreplace")

    try:
        app(prog_name="toolgate")
    except OSError as error:
        # What was asked for could not be told, which is neither a yes nor a no.
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        sys.exit(_CANNOT_TELL)
