"""``toolgate policy test``: run cases against a policy, and tell what they did not cover."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from toolgate.cli.terminal import (
    NO,
    JSONOption,
    console,
    one_line,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.config import GateConfig, load_config
from toolgate.errors import PolicyError
from toolgate.jsonvalue import JSONValue
from toolgate.policy.documents import alone, unsigned, with_document
from toolgate.policy.testing import (
    INVALID,
    CaseFile,
    CaseResult,
    Coverage,
    Coverages,
    read_cases,
    run_cases,
    unknown_tools,
)

PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="A policy document in place of the config's.", metavar="FILE"),
]


def run_tests(
    files: Annotated[
        list[Path], typer.Argument(help="Files of cases.", metavar="FILE...", show_default=False)
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A config in place of the files'.", metavar="FILE"),
    ] = None,
    policy: PolicyOption = None,
    full_coverage: Annotated[
        bool, typer.Option("--full-coverage", help="Fail, too, when a rule is not covered.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Run the cases of files against the policy they name; exit 1 when one fails.

    With --config or --policy they are run against that one.
    """
    with reported():
        read = [read_cases(file) for file in files]
        coverages: dict[str, Coverages] = {}
        results: list[CaseResult] = []
        warnings: list[str] = []
        for file in read:
            deployed = _config(file, config, policy)
            results += run_cases(file, deployed, coverages)
            if deployed.tools:
                # Of a document alone nobody knows which tools there are.
                warnings += [f"{file.path}: {text}" for text in unknown_tools(file, deployed)]
    failed = sum(1 for result in results if result.problems)
    rules = [rule for found in coverages.values() for rule in found.rules.values()]
    uncovered = sum(1 for rule in rules if rule.gaps)
    ok = not failed and not (full_coverage and uncovered)
    if as_json:
        print_json(
            {
                "ok": ok,
                "failed": failed,
                "cases": [_case_json(result) for result in results],
                "coverage": [_coverage_json(found) for found in coverages.values()],
                "warnings": warnings,
            }
        )
    else:
        _print(results, list(coverages.values()))
        for text in warnings:
            console.print(
                Text.assemble(("warning: ", "bold yellow"), one_line(text)), soft_wrap=True
            )
        _print_sum(results, failed, rules, uncovered)
    if not ok:
        raise typer.Exit(NO)


def _config(file: CaseFile, config: Path | None, policy: Path | None) -> GateConfig:
    """Return the configuration whose policy a file's cases are run against."""
    head = file.head
    deployed = config or (None if head.config is None else file.beside(head.config))
    if deployed is not None:
        loaded = unsigned(load_config(deployed, {**os.environ, **head.environment}))
    elif policy is not None or head.policy is not None:
        path = policy or file.beside(head.policy or "")
        return alone(path, constants=head.vars or {}, allow_up_to=head.allow_up_to or 0).config
    else:
        raise PolicyError(
            str(file.path), ["names neither a config nor a policy; name one, or give --config"]
        )
    return loaded if policy is None else with_document(loaded, policy)


def _print(results: Sequence[CaseResult], coverages: Sequence[Coverages]) -> None:
    file = None
    for result in results:
        if result.file != file:
            file = result.file
            console.print(Text(printable(str(file)), style="bold"), soft_wrap=True)
        mark = ("FAIL", "bold red") if result.problems else ("ok", "green")
        where = f"  (line {result.line})" if result.problems and result.line else ""
        console.print(
            Text.assemble("  ", (f"{mark[0]:4}", mark[1]), "  ", one_line(result.name), where),
            soft_wrap=True,
        )
        for problem in result.problems:
            console.print(Text(f"        {one_line(problem)}"), soft_wrap=True)
    for coverage in coverages:
        _print_coverage(coverage)


def _print_coverage(coverages: Coverages) -> None:
    policy = coverages.policy
    console.print(Text(f"\nrules of {one_line(policy.id)}", style="bold"), soft_wrap=True)
    table = Table("", "rule", "cases", "when", "unless", "not covered", box=None, pad_edge=False)
    observing = {rule.id for rule in policy.rules if rule.observed}
    for rule in coverages.rules.values():
        table.add_row(
            "",
            Text(one_line(rule.rule) + (" (observes)" if rule.rule in observing else "")),
            str(rule.matched),
            _answers(rule.when),
            _answers(rule.unless),
            Text("; ".join(rule.gaps), style="yellow"),
        )
    print_table(table)


def _answers(seen: set[bool] | None) -> str:
    if seen is None:
        return "–"
    return (
        ", ".join(str(answer).lower() for answer in (True, False) if answer in seen) or "no answer"
    )


def _print_sum(
    results: Sequence[CaseResult], failed: int, rules: Sequence[Coverage], uncovered: int
) -> None:
    told = [f"{len(results) - failed} of {len(results)} cases passed"]
    told.append(f"{len(rules) - uncovered} of {len(rules)} rules covered in full")
    style = "bold red" if failed else "bold yellow" if uncovered else "bold green"
    console.print(Text(f"\n{', '.join(told)}", style=style), soft_wrap=True)


def _case_json(result: CaseResult) -> dict[str, JSONValue]:
    verdict = result.verdict
    told: dict[str, JSONValue] = {
        "file": str(result.file),
        "line": result.line,
        "name": result.name,
        "ok": not result.problems,
        "problems": list(result.problems),
    }
    if verdict is None:
        reason = "; ".join(result.invalid)
        said: dict[str, JSONValue] = {"rules": [], "errors": [], "observed": None}
        return {**told, "effect": INVALID, "reason": reason, **said}
    would_be = verdict.observed
    return {
        **told,
        "effect": verdict.effect,
        "rules": list(verdict.rules),
        "reason": verdict.reason,
        "errors": [{"rule": error.rule, "error": error.error} for error in verdict.errors],
        "observed": None if would_be is None else would_be.effect,
    }


def _coverage_json(coverages: Coverages) -> dict[str, JSONValue]:
    return {
        "policy": coverages.policy.id,
        "digest": coverages.policy.digest,
        "rules": {
            rule.rule: {
                "cases": rule.matched,
                "when": None if rule.when is None else sorted(rule.when, reverse=True),
                "unless": None if rule.unless is None else sorted(rule.unless, reverse=True),
                "gaps": rule.gaps,
            }
            for rule in coverages.rules.values()
        },
    }
