"""Patterns for names: ``*``, ``?``, ``[a-z]`` and ``[!a]``, matched against the whole name.

Case matters, and ``*`` matches anything, line ends too. Rules and capabilities are written in them.
"""

from __future__ import annotations

import fnmatch
import re


def compiled(glob: str) -> re.Pattern[str]:
    """Return what matches the names that ``glob`` means; ask it with ``match``."""
    return re.compile(fnmatch.translate(glob))


def check(glob: str) -> None:
    """Raise :class:`ValueError` for a glob with a bracket that is not closed or matches nothing."""
    at = glob.find("[")
    while at >= 0:
        start = at + 2 if glob[at + 1 : at + 2] == "!" else at + 1
        end = glob.find("]", start + 1)
        if end < 0:
            raise ValueError(f"the glob {glob} has a [ without its ]")
        for first, last in re.findall(r"(.)-(.)", glob[start:end], re.DOTALL):
            if first > last:
                raise ValueError(f"the glob {glob} has the empty range {first}-{last}")
        at = glob.find("[", end + 1)
