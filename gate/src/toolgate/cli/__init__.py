"""The ``toolgate`` command. One module a command; what they do is done elsewhere.

Exit codes: 0 fine, 1 the answer is no, 2 wrong use or bad input.
"""

from __future__ import annotations

import sys

_SERVE_ARGUMENTS = 3


def main() -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:]
    if len(arguments) == _SERVE_ARGUMENTS and arguments[:2] == ["serve", "--config"]:
        # What clients start: it must be ready soon, and needs none of the terminal's libraries.
        from toolgate.cli.serve import serve

        sys.exit(serve(arguments[2]))
    from toolgate.cli.app import app

    app(prog_name="toolgate")
