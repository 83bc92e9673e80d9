"""``toolgate check FILE``: is this configuration usable, and what does it mean for each tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table
from rich.text import Text

from toolgate.cli.terminal import (
    BAD_INPUT,
    JSONOption,
    console,
    errors,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.config import GateConfig, load_config
from toolgate.deployment import pinned_keys
from toolgate.errors import ConfigError, PolicyError, ToolgateError
from toolgate.ir import ActionType
from toolgate.kernel.capabilities import Capabilities
from toolgate.policy import (
    Contract,
    Policy,
    compile_policy,
    contract_for,
    contract_for_state_action,
)
from toolgate.policy.doubts import doubts
from toolgate.policy.loading import OBSERVE_WARNING, UNSIGNED_WARNING
from toolgate.policy.outlook import Outlook, outlook

_STATE_ACTIONS = (ActionType.STATE_WRITE, ActionType.STATE_READ, ActionType.ASSERTION)
_COLOURS = {"allow": "green", "hold": "yellow", "deny": "red", "depends": "cyan"}


def check(
    file: Annotated[
        Path | None,
        typer.Argument(help="The gate's config file; or name it with --config.", metavar="[FILE]"),
    ] = None,
    named: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", envvar="TOOLGATE_CONFIG", help="The same as FILE.", metavar="FILE"
        ),
    ] = None,
    json: JSONOption = False,
) -> None:
    """Validate a config file with its policy, and show what holds for every tool.

    FILE goes before --config and TOOLGATE_CONFIG.
    """
    path = file or named
    if path is None:
        raise typer.BadParameter("name the config: FILE, --config FILE, or TOOLGATE_CONFIG")
    with reported():
        config = load_config(path)
    found: list[ToolgateError] = []
    try:
        pinned_keys(config)
    except ConfigError as error:
        found.append(error)
    try:
        policy = compile_policy(config)
    except PolicyError as error:
        _refuse([*found, error])
    if found:
        _refuse(found)
    report = _report(config, policy)
    if json:
        print_json(report)
    else:
        _print(report)


def _refuse(found: Sequence[ToolgateError]) -> NoReturn:
    for error in found:
        errors.print(Text.assemble(("error: ", "bold red"), printable(str(error))), soft_wrap=True)
    raise typer.Exit(BAD_INPUT)


def _report(config: GateConfig, policy: Policy) -> dict[str, Any]:
    contracts = [contract_for(name, entry) for name, entry in config.tools.items()]
    capabilities = Capabilities(config.capabilities)
    return {
        "file": config.source.name,
        "project": config.project,
        "mode": config.mode,
        "policy": {
            "id": policy.id,
            "digest": policy.digest,
            "allow_up_to": config.policy.allow_up_to,
        },
        "approvers": [approver.id for approver in config.approvals.approvers],
        "tools": {
            contract.name: {
                **contract.public(),
                "verdict": _refusal(capabilities, contract)
                or _verdict(outlook(policy, ActionType.TOOL_CALL, contract)),
            }
            for contract in contracts
        },
        "state_actions": {
            contract.name: {
                "level": contract.level,
                "verdict": _verdict(outlook(policy, ActionType(contract.name), contract)),
            }
            for contract in map(contract_for_state_action, _STATE_ACTIONS)
        },
        "warnings": [*policy.warnings, *doubts(policy, config)],
    }


def _refusal(capabilities: Capabilities, contract: Contract) -> dict[str, Any] | None:
    refusal = capabilities.refusal_of_tool(contract.name)
    return None if refusal is None else {"effect": "deny", "reason": refusal.message}


def _verdict(found: Outlook) -> dict[str, Any]:
    settled = found.settled
    if settled is not None:
        told = settled.to_json()
        del told["depends_on"]
    else:
        *some, rest = found.outcomes
        cases = [f"{item.effect} {item.reason}" for item in some]
        told = {
            "effect": "depends",
            "reason": f"{'; '.join(cases)}; else {rest.effect}: {rest.reason}",
            "depends_on": list(found.depends_on),
            "outcomes": [item.to_json() for item in found.outcomes],
        }
    if found.observed is not None:
        told["observed"] = _verdict(found.observed)
    return told


def _print(report: dict[str, Any]) -> None:
    policy = report["policy"]
    approvers = ", ".join(report["approvers"]) or "none"
    if report["mode"] == "observe":
        console.print(Text(OBSERVE_WARNING, style="bold white on red"), soft_wrap=True)
    if UNSIGNED_WARNING in report["warnings"]:
        console.print(Text(UNSIGNED_WARNING, style="bold white on red"), soft_wrap=True)
    for label, text in (
        ("config", f"{report['file']} (project {report['project']})"),
        ("policy", f"{policy['id']} {policy['digest']}"),
        ("allowed", f"without a rule: up to level {policy['allow_up_to']}"),
        ("approvers", approvers),
    ):
        console.print(Text.assemble((f"{label:10}", "bold"), printable(text)), soft_wrap=True)
    table = Table("tool", "level", "contract", "verdict")
    for name, tool in report["tools"].items():
        table.add_row(
            Text(printable(name)),
            str(tool["level"]),
            Text(printable(", ".join(_terms(tool)))),
            _said(tool["verdict"]),
        )
    if report["tools"]:
        print_table(table)
    else:
        console.print("No tool has an entry: every tool gets the conservative contract.")
    for name, action in report["state_actions"].items():
        line = Text(f"{name} (level {action['level']}): ") + _said(action["verdict"])
        console.print(line, soft_wrap=True)
    for warning in report["warnings"]:
        if warning in (OBSERVE_WARNING, UNSIGNED_WARNING):
            continue  # It stands at the top.
        console.print(
            Text.assemble(("warning: ", "bold yellow"), printable(warning)), soft_wrap=True
        )


def _terms(tool: dict[str, Any]) -> list[str]:
    terms = [tool["reversibility"], tool["blast_radius"], *tool["labels"]]
    terms += [f"emits {', '.join(tool['emits'])}"] if "emits" in tool else []
    terms += [f"redacts {', '.join(tool['redact'])}"] if "redact" in tool else []
    terms += ["idempotent"] if tool["idempotent"] else []
    terms += [f"{tool['timeout_ms'] / 1000:g} s"]
    if "retries" in tool:
        terms.append(f"at most {tool['retries']} retries")
    if "rate_limit" in tool:
        rate = tool["rate_limit"]
        terms.append(f"{rate['max_calls']} calls in {rate['interval_secs']:g} s")
    if "cache_ttl_secs" in tool:
        seconds = tool["cache_ttl_secs"]
        terms.append(f"results kept {seconds:g} s" if seconds else "results not kept")
    return terms


def _said(verdict: dict[str, Any]) -> Text:
    effect, would_be = verdict["effect"], verdict.get("observed")
    said = Text(effect, _COLOURS[effect])
    if "depends_on" in verdict:
        said.append(f" on {printable(', '.join(verdict['depends_on']))}")
    said = Text.assemble(said, printable(f": {verdict['reason']}"))
    return said if would_be is None else said.append("; OBSERVED ONLY: ", "bold") + _said(would_be)
