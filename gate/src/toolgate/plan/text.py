"""JSON values in sentences for people."""

from __future__ import annotations

import json
from typing import Final

from toolgate.jsonvalue import JSONValue

_MOST: Final = 200


def shown(value: JSONValue) -> str:
    """Return a value as JSON in ASCII, its end left out when it is long."""
    text = json.dumps(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]} …"
