"""The ``toolgate`` command. One module a command; what they do is done elsewhere.

Exit codes: 0 fine, 1 the answer is no, 2 wrong use or bad input.
"""

from __future__ import annotations

import io
import os
import sys

from toolgate import faults

_SERVE_ARGUMENTS = 3
_CANNOT_TELL = 2


def main() -> None:
    """Run the command line and exit."""
    try:
        faults.arm(os.environ)
    except faults.FaultError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(_CANNOT_TELL)
    arguments = sys.argv[1:]
    if len(arguments) == _SERVE_ARGUMENTS and arguments[:2] == ["serve", "--config"]:
        # What clients start: it must be ready soon, and needs none of the terminal's libraries.
        from toolgate.cli.serve import serve

        sys.exit(serve(arguments[2]))
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
