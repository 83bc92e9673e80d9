"""Which of these tests need the gate beside them: those are left out where there is none."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("toolgate") else ["test_suspended.py"]
