"""``toolgate policy check``: everything that is wrong with a document, and where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from toolgate.cli.terminal import (
    BAD_INPUT,
    NO,
    JSONOption,
    console,
    errors,
    print_json,
    printable,
    reported,
)
from toolgate.config import GateConfig, load_config
from toolgate.errors import PolicyError
from toolgate.jsonvalue import JSONValue
from toolgate.policy import compile_policy
from toolgate.policy.documents import alone, read_document, with_document
from toolgate.policy.doubts import doubts

OptionalConfig = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="TOOLGATE_CONFIG", help="The gate's config file.", metavar="FILE"
    ),
]

_LINE = re.compile(r"line (\d+): ")
_RULE = re.compile(r"rule (.+?): ")
_PLACE = re.compile(r"(when|unless): (\d+):(\d+): ")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document; ``position`` is the line and column within a condition."""

    line: int | None
    rule: str | None
    field: str | None
    position: tuple[int, int] | None
    message: str

    @classmethod
    def read(cls, text: str) -> Problem:
        """Take a problem, as :class:`PolicyError` tells it, to pieces."""
        line = _LINE.match(text)
        rest = text[line.end() :] if line else text
        rule = _RULE.match(rest)
        place = _PLACE.match(rest, rule.end()) if rule else None
        return cls(
            line=int(line[1]) if line else None,
            rule=rule[1] if rule else None,
            field=place[1] if place else None,
            position=(int(place[2]), int(place[3])) if place else None,
            message=rest,
        )

    def to_json(self) -> dict[str, JSONValue]:
        """Return the problem for machines."""
        return {
            "line": self.line,
            "rule": self.rule,
            "field": self.field,
            "position": None if self.position is None else list(self.position),
            "message": self.message,
        }


def check_document(
    file: Annotated[
        Path | None,
        typer.Argument(help="The policy document; by default the config's.", show_default=False),
    ] = None,
    config: OptionalConfig = None,
    as_json: JSONOption = False,
) -> None:
    """Find everything that is wrong with a policy document; exit 1 when something is.

    With a config the document is checked as that deployment's, in place of its own.
    """
    if file is None and config is None:
        raise typer.BadParameter("name a policy document, or a config with --config")
    assumed: Sequence[str] = ()
    with reported():
        loaded = None if config is None else load_config(config)
    try:
        if loaded is None:
            by_itself = alone(_given(file))
            loaded, assumed = by_itself.config, by_itself.assumed
        elif file is not None:
            loaded = with_document(loaded, file)
        policy = compile_policy(loaded)
    except PolicyError as error:
        _refuse(error, as_json)
        raise typer.Exit(BAD_INPUT if _unreadable(error) else NO) from None
    # Of a document alone nobody knows which tools there are.
    warnings = [] if config is None else [*policy.warnings, *doubts(policy, loaded)]
    told = {"file": shown(_name(loaded)), "id": policy.id, "digest": policy.digest}
    observed = [rule.id for rule in policy.rules if rule.observed]
    if as_json:
        lists: dict[str, Any] = {"problems": [], "warnings": warnings, "assumed": list(assumed)}
        told["mode"] = loaded.mode
        print_json({"ok": True, **told, "rules": len(policy.rules), "observed": observed, **lists})
        return
    console.print(
        f"{told['file']}: fine, {len(policy.rules)} rules ({policy.id} {policy.digest})",
        markup=False,
        soft_wrap=True,
    )
    # With a config the warnings tell of them.
    observing = [f"rule {name} decides nothing" for name in observed] if config is None else []
    for label, style, texts in (
        ("observed", "bold yellow", observing),
        ("assumed", "cyan", assumed),
        ("warning", "bold yellow", warnings),
    ):
        for text in texts:
            console.print(Text.assemble((f"{label}: ", style), printable(text)), soft_wrap=True)


def _given(file: Path | None) -> Path:
    if file is None:
        raise ValueError("without a config there is a file")
    return file


def _name(config: GateConfig) -> str:
    return config.source.name if config.policy.file is None else str(config.policy.file)


def _unreadable(error: PolicyError) -> bool:
    return any(problem.startswith("cannot be read") for problem in error.problems)


def _refuse(error: PolicyError, as_json: bool) -> None:
    problems = [Problem.read(text) for text in error.problems]
    if as_json:
        found = [problem.to_json() for problem in problems]
        print_json({"ok": False, "file": shown(error.source), "problems": found})
        return
    conditions = _conditions(Path(error.source))
    file = shown(error.source)
    for problem in problems:
        place = file if problem.line is None else f"{file}:{problem.line}"
        errors.print(
            Text.assemble((printable(place), "bold"), ": ", printable(problem.message)),
            soft_wrap=True,
        )
        if problem.position is not None:
            source = conditions.get((problem.rule, problem.field))
            for row in [] if source is None else _pointed(source, problem.position):
                errors.print(Text(f"    {row}"), soft_wrap=True)
    if any(problem.message == "project: unknown key" for problem in problems):
        errors.print("this looks like a config, not a policy document: name it with --config")


def shown(name: str) -> str:
    """Return a path as people would write it: relative where it is below the current folder."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _conditions(path: Path) -> dict[tuple[str | None, str | None], str]:
    """Return the conditions of a document by rule and field, to show where a problem is."""
    try:
        value = read_document(path).value
    except PolicyError:
        return {}
    rules = value.get("rules") if isinstance(value, dict) else None
    found: dict[tuple[str | None, str | None], str] = {}
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict):
            for name in ("when", "unless"):
                if isinstance(rule.get(name), str):
                    found[str(rule.get("id")), name] = rule[name]
    return found


def _pointed(source: str, position: tuple[int, int]) -> list[str]:
    """Return the line of a condition at a position, and a mark beneath the column."""
    rows = source.split("\n")
    line, column = position
    if not 1 <= line <= len(rows):
        return []
    # What does not print is shown by its number, which is wider than one column.
    before, row = printable(rows[line - 1][: column - 1]), printable(rows[line - 1])
    return [row, " " * len(before) + "^"]
