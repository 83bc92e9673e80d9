"""What the pages show is what happens: each is followed from top to bottom in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from support import crewai_world
from support.doc_pages import PAGES, ROOT, Block, blocks, name_of

BOUND = 20.0
"""Seconds that any command of a page may take."""
PATIENCE = 50.0
"""Seconds that a test waits for its page, while others are followed."""

_AGENT = """
from support.scripted_model import script, tool_call

def search_orders(order: str) -> str:
    "Look up an order."
    return f"order {order}: one lamp, 120.00"

def issue_refund(order: str, amount: float) -> str:
    "Pay money back."
    return f"refunded {amount:.2f} for order {order}"

def delete_customer(customer: str) -> str:
    "Delete a customer's record."
    raise AssertionError("never runs")

model = script(
    tool_call("search_orders", {"order": "1042"}),
    tool_call("issue_refund", {"order": "1042", "amount": 120.0}, "call-2"),
    answer="The refund of 120.00 for order 1042 is on its way.",
)
"""
_CREW = """
import json
import logging

from crewai import BaseLLM
from crewai.tools import tool

logging.disable(logging.WARNING)  # CrewAI says that it does not know the scripted model's tokens

@tool("search_orders")
def search_orders(order: str) -> str:
    "Look up an order."
    return f"order {order}: one lamp, 120.00"

@tool("issue_refund")
def issue_refund(order: str, amount: float) -> str:
    "Pay money back."
    return f"refunded {amount:.2f} for order {order}"

@tool("delete_customer")
def delete_customer(customer: str) -> str:
    "Delete a customer's record."
    raise AssertionError("never runs")

class Model(BaseLLM):
    def call(self, messages, *args, **options):
        refund = ("issue_refund", {"order": "1042", "amount": 120})
        calls = [("search_orders", {"order": "1042"}), refund]
        told = sum(message["role"] == "tool" for message in messages)
        if told == len(calls):
            return "done"
        function = {"name": calls[told][0], "arguments": json.dumps(calls[told][1])}
        return [{"id": str(told), "type": "function", "function": function}]

    def supports_function_calling(self):
        return True

model = Model(model="scripted")
"""
_TEAM = """
from support.autogen_teams import Scripted

def search_orders(order: str) -> str:
    "Look up an order."
    return f"order {order}: one lamp, 120.00"

def issue_refund(order: str, amount: float) -> str:
    "Pay money back."
    return f"refunded {amount:.2f} for order {order}"

def delete_customer(customer: str) -> str:
    "Delete a customer's record."
    raise AssertionError("never runs")

def model():
    refund = ("issue_refund", {"order": "1042", "amount": 120})
    return Scripted([("search_orders", {"order": "1042"})], [refund], "The refund is paid.")
"""
_ALLOW_ALL = """
project: acme
tools: {send_email: {level: 3}, search_web: {level: 1}}
policy:
  rules: [{id: all, tools: ["*"], effect: allow}]
"""

GIVEN = {
    "README.md": {"my_agent.py": _AGENT},
    "docs/guides/langgraph.md": {"my_agent.py": _AGENT},
    "docs/guides/crewai.md": {"my_crew.py": _CREW},
    "docs/guides/autogen.md": {"my_agent.py": _TEAM},
    "docs/guides/plans.md": {
        name: (ROOT / name).read_text()
        for name in ("examples/deploy.py", "configs/deploy.yaml", "configs/policies/deploy.yaml")
    },
    "client/README.md": {"gate.yaml": _ALLOW_ALL},
    "adapters/langgraph/README.md": {
        "gate.yaml": _ALLOW_ALL,
        "my_tools.py": """
def search_web(question: str) -> str:
    "Look something up."
    return "42"

def send_email(to: str, text: str) -> str:
    "Send one mail."
    return f"sent to {to}"
""",
    },
}
"""What a page speaks of as its reader's own, by page and file."""
GIVEN["adapters/crewai/README.md"] = GIVEN["adapters/langgraph/README.md"]
GIVEN["adapters/autogen/README.md"] = GIVEN["adapters/langgraph/README.md"]

CREWAI = {"docs/guides/crewai.md", "adapters/crewai/README.md"}
"""Pages whose programs need CrewAI, which has an environment of its own."""

WARNINGS = {
    # Lodestar's clients leave their pipes open.
    "docs/guides/lodestar.md": "error,ignore::ResourceWarning",
    # AutoGen warns of what it does when a function's tool is loaded.
    "docs/guides/autogen.md": "error,ignore::UserWarning",
}
"""What warnings come to in the programs of a page."""

_KINDS = {"HOLD": "[0-9a-f]{24}", "UID": "[0-9a-f]{24}", "PUBLIC_KEY": "[A-Za-z0-9+/]{43}="}
_PLACEHOLDER = re.compile(r"\b(?:[A-Z]+_)?(HOLD|UID|PUBLIC_KEY)\b")
_RUN = ("python", "console")


class Reader:
    """Somebody who follows a page to the letter, in an empty folder."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = name_of(page)
        self._folder = folder
        self._said: dict[str, str] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {
            "PATH": path,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "160",
            "PYTHONPATH": str(ROOT / "tests"),
            # uvloop warns of what a gate that is shut down leaves for its process's end to close.
            "PYTHONWARNINGS": WARNINGS.get(self._page, "error"),
        }
        self._python = sys.executable
        if self._page in CREWAI:
            self._python = str(crewai_world.PYTHON)
            self._environment |= crewai_world.environment(folder)
            self._environment["PATH"] = f"{crewai_world.PYTHON.parent}{os.pathsep}{path}"
            self._environment["PYTHONWARNINGS"] = "ignore"
        for file, text in GIVEN.get(self._page, {}).items():
            self._write(file, text)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if "file" in block.options:
            self._write(block.options["file"], self._filled(block.text))
        elif block.language == "python":
            self._run([self._python, "-c", self._filled(block.text)], block.line)
        elif block.language == "console":
            commands = list(_commands(block.text))
            assert commands, f"{self._page}:{block.line}: no command after a $"
            for number, (command, shown) in enumerate(commands, start=1):
                code = int(block.options.get("exit", 0)) if number == len(commands) else 0
                self._type(command, shown, code, block.line)

    def _write(self, name: str, text: str) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _type(self, command: str, shown: str, code: int, line: int) -> None:
        command = self._filled(command)
        setting = re.fullmatch(r"export (\w+)=(\S*)", command)
        if setting:
            self._environment[setting[1]] = setting[2]
            return
        printed = self._run(["sh", "-c", command], line, code)
        if shown:
            match = self._pattern(shown).fullmatch(printed)
            where = f"{self._page}:{line}: $ {command}"
            assert match, f"{where}\nprinted\n{printed}\nand the page shows\n{shown}"
            self._said |= match.groupdict()

    def _run(self, command: list[str], line: int, code: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND,
            check=False,
        )
        where = f"{self._page}:{line}: {command[-1]}"
        assert done.returncode == code, f"{where}\nended with {done.returncode}:\n{done.stdout}"
        return "".join(f"{row.rstrip()}\n" for row in done.stdout.splitlines())

    def _filled(self, text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: self._said.get(match[0], match[0]), text)

    def _pattern(self, shown: str) -> re.Pattern[str]:
        """Return what a command's output must be, given what the page shows of it."""
        known: set[str] = set()

        def placeholder(match: re.Match[str]) -> str:
            name = match[0]
            if name in self._said:
                return re.escape(self._said[name])
            if name in known:
                return f"(?P={name})"
            known.add(name)
            return f"(?P<{name}>{_KINDS[match[1]]})"

        rows = []
        for row in shown.splitlines():
            if row == "…":
                rows.append(r"(?:.*\n)*?")
                continue
            words = r"\ *".join(re.escape(word) for word in re.split(r" +", row.rstrip()))
            line = _PLACEHOLDER.sub(placeholder, words).replace("…", ".*?")
            # Atomic: how a row matched its line is not tried anew for what fails further down.
            rows.append(rf"(?>{line} *\n)")
        return re.compile("".join(rows))


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output that the page shows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = f"{command[:-1]}{more.strip()}"
        yield command, shown


def _is_run(page: Path) -> bool:
    return any(block.language in _RUN or "file" in block.options for block in blocks(page))


def _follow(page: Path, folder: Path) -> None:
    reader = Reader(page, folder)
    for block in blocks(page):
        reader.follow(block)


@pytest.fixture(scope="module")
def followed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], None]]:
    """Follow the chosen pages, one for each core at a time: they mostly wait for processes."""
    chosen = [
        item.callspec.params["page"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "followed" in item.fixturenames
    ]
    with ThreadPoolExecutor(os.cpu_count()) as readers:
        running = {
            page: readers.submit(_follow, page, tmp_path_factory.mktemp("page")) for page in chosen
        }
        yield lambda page: running[page].result(PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if _is_run(p)], ids=name_of)
def test_a_page_can_be_followed_to_the_letter(page: Path, followed: Callable[[Path], None]) -> None:
    if name_of(page) in CREWAI and not crewai_world.PYTHON.exists():
        pytest.skip("this environment has no CrewAI")
    followed(page)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=name_of)
def test_every_block_says_what_it_is_and_is_well_formed(page: Path) -> None:
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        assert block.language in {"python", "console", "sh", "yaml", "json", "text"}, where
        assert block.options.keys() <= {"file", "exit"}, where
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.language == "json":
            for row in block.text.splitlines():
                json.loads(row)
        if block.language == "python":
            compile(block.text, where, "exec")
