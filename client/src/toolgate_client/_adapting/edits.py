"""Arguments that an approver has put in the place of the proposed ones."""

from __future__ import annotations


class EditRefused(Exception):
    """A body raises this when its tool's own schema does not take the arguments a person gave.

    The call has not run, and its model could not have made it right: it is told so.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"a person gave it arguments that it does not take: {error}")
