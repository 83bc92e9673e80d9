"""What the bodies of tools with methods of their own are given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.tools import BaseStreamTool
from pydantic import BaseModel

from support.langgraph_world import ALLOW, World
from toolgate_autogen import govern_tools


class Place(BaseModel):
    path: str


class Written(BaseModel):
    path: str


class Writer(BaseStreamTool[Place, str, Written]):
    """Looks at what it is given without validating it."""

    def __init__(self) -> None:
        super().__init__(Place, Written, "write", "Write a file.")
        self.given: list[dict[str, Any]] = []

    async def run(self, args: Place, cancellation_token: CancellationToken) -> Written:
        return Written(path=args.path)

    async def run_stream(
        self, args: Place, cancellation_token: CancellationToken
    ) -> AsyncIterator[str | Written]:
        yield Written(path=args.path)

    async def run_json_stream(
        self, args: Any, cancellation_token: CancellationToken, call_id: str | None = None
    ) -> AsyncIterator[str | Written]:
        self.given.append(dict(args))
        yield Written(path=args["path"])


async def test_a_stream_of_a_tools_own_is_given_what_was_judged_and_nothing_else(
    tmp_path: Path,
) -> None:
    writer = Writer()
    with World(tmp_path, ALLOW).gate() as gate:
        [governed] = govern_tools(gate, [writer])
        args = {"path": "/ok", "sudo": True}
        async for _ in governed.run_json_stream(args, CancellationToken()):
            pass
        judged = [e.data["args"] for e in gate.events() if e.kind == "action.proposed"]
    assert writer.given == judged == [{"path": "/ok"}]
