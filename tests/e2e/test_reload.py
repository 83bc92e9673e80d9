"""A gate's process is told by a signal that its policy document has changed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import config
from toolgate.wire import messages

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")


def document(effect: str) -> str:
    rule = {"id": "search", "tools": ["search"], "effect": effect}
    return yaml.safe_dump({"version": 1, "id": "doc", "rules": [rule]})


class Process:
    """A gate's process, spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.to, self.out, self.err = process.stdin, process.stdout, process.stderr

    async def read(self) -> Any:
        return json.loads(await self.out.readline())

    async def ask(self, number: int, method: str, **params: Any) -> Any:
        self.to.write(messages.request(number, method, params))
        while (message := await self.read()).get("id") != number:
            continue
        return message["result"]

    async def hear(self, text: str) -> str:
        while text not in (line := (await self.err.readline()).decode()):
            assert line, f"the gate ended without saying {text!r}"
        return line


async def test_sighup_reloads_the_policy_document_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(document("deny"))
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(config(policy={"file": "policy.yaml"})))
    gate = Process(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toolgate", "serve", "--config", str(tmp_path / "gate.yaml")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        assert (await gate.read())["method"] == "ready"
        await gate.ask(1, "register_tool", name="search")
        first = await gate.ask(2, "govern", tool="search", args={})
        policy.write_text("rules: [")
        gate.process.send_signal(signal.SIGHUP)
        await gate.hear("POLICY NOT RELOADED")
        second = await gate.ask(3, "govern", tool="search", args={})
        policy.write_text(document("hold"))
        gate.process.send_signal(signal.SIGHUP)
        reloaded = await gate.hear("policy reloaded")
        third = await gate.ask(4, "govern", tool="search", args={})
        await gate.ask(5, "shutdown")
        assert await gate.process.wait() == 0
    finally:
        if gate.process.returncode is None:
            gate.process.kill()
            await gate.process.wait()
    assert [answer["status"] for answer in (first, second, third)] == [
        "rejected",
        "rejected",
        "held",
    ]
    digests = [answer["decision"]["digest"] for answer in (first, second, third)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[2] in reloaded
