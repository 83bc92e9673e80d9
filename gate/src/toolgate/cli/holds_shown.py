"""A hold, and the proposal it belongs to, as `toolgate approvals` shows them."""

from __future__ import annotations

import difflib
from typing import Any, TypeAlias

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from toolgate import clock
from toolgate.approvals.tally import HoldState, Version
from toolgate.cli.terminal import one_line, pretty
from toolgate.ir import ActionStatus, ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.holds import HoldView
from toolgate.kernel.plan_view import PlanView
from toolgate.policy.loading import UNSIGNED_WARNING
from toolgate.policy.requirement import asks

Decision: TypeAlias = dict[str, Any] | None
"""Policy's decision on what is held, as the journal tells it."""


def hold_json(view: HoldView, decision: Decision, plan: PlanView | None) -> dict[str, JSONValue]:
    """Return a hold as the commands print it for machines: with its proposal, if it has one."""
    shape = {**view.to_json(reveal=True), "reasons": _reasons(view, decision)}
    return shape if plan is None else {**shape, "plan": plan.to_json()}


def hold_panel(view: HoldView, decision: Decision, plan: PlanView | None) -> Panel:
    """Return a hold as people see it: what would run first, in full."""
    hold = view.seen
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    deadline = "never" if hold.deadline is None else clock.to_text(hold.deadline)
    rows: dict[str, str | Text] = {
        **_place_rows(view, plan),
        "tool": one_line(hold.tool),
        **_argument_rows(view),
        **_consequence_rows(view, plan),
        "reason": _reason(view, decision),
        "rules": ", ".join(hold.rules) or "(the tool's level)",
        "approvers": _approvers(view),
        "approved by": _approved_by(view.tally.version) or "nobody yet",
        **({"waits for": one_line(view.waits_for)} if view.status == HoldState.PENDING else {}),
        **_version_rows(view),
        "status": view.status,
        "expires": deadline,
        "action": hold.uid,
        "digest": hold.digest,
    }
    if view.tally.refused:
        rows["not counted"] = "\n".join(one_line(r.reason) for r in view.tally.refused)
    if hold.requirement.unsigned:
        rows["signatures"] = Text(UNSIGNED_WARNING, style="bold red")
    for name, text in rows.items():
        table.add_row(name, text if isinstance(text, Text) else Text(text))
    return Panel(table, title=f"hold {hold.hold_id}", title_align="left", border_style="yellow")


def _reasons(view: HoldView, decision: Decision) -> dict[str, JSONValue]:
    """Return what each rule says that holds it, where several do and all are known."""
    known = {} if decision is None else decision.get("reasons", {})
    rules = view.hold.rules
    return {rule: known[rule] for rule in rules} if rules and known.keys() >= set(rules) else {}


def _reason(view: HoldView, decision: Decision) -> str:
    """Return why it is held: where several rules hold it, what each of them says."""
    reasons = _reasons(view, decision)
    if decision is None or not reasons:
        return one_line(view.hold.reason)
    said = [f"{rule}: {one_line(reason)}" for rule, reason in reasons.items()]
    said += [
        f"rule {error['rule']} could not be evaluated: {one_line(error['error'])}"
        for error in decision["errors"]
    ]
    return "\n".join(said)


def _approvers(view: HoldView) -> str:
    """Return who may answer; where there are several groups, each with what it lacks."""
    hold = view.hold
    groups = asks(hold.requirement)
    if len(groups) < 2:
        return f"{one_line(hold.asked)} ({hold.quorum} must approve)"
    rows = []
    for ask in groups:
        lacks = ask.lacks(view.tally.approved_by)
        met = f"{lacks} missing" if lacks else "met"
        rows.append(one_line(f"{ask} for {ask.whose}: {met}"))
    return "\n".join(rows)


def _argument_rows(view: HoldView) -> dict[str, str | Text]:
    """Return the arguments: where they were edited, against those that were proposed."""
    edit, args = view.edit, view.seen.args
    if edit is None:
        return {"arguments": pretty(args)}
    was = edit.proposed if view.revealed else edit.shown
    diff = Text(f"edited by {one_line(edit.by)}: - as proposed, + as it would run")
    for line in difference(was, args):
        diff.append(f"\n{line}", style={"-": "red", "+": "green"}.get(line[0], ""))
    return {"arguments": diff}


def difference(was: dict[str, JSONValue], now: dict[str, JSONValue]) -> list[str]:
    """Return arguments line by line, marked where they differ from what they were."""
    compared = difflib.ndiff(pretty(was).splitlines(), pretty(now).splitlines())
    return [line for line in compared if not line.startswith("?")]


def _version_rows(view: HoldView) -> dict[str, str]:
    """Return who approved which arguments, where there were several."""
    versions = view.tally.versions
    if len(versions) < 2:
        return {}
    said = [
        f"{'as it was held' if version.by is None else f'edited by {one_line(version.by)}'}: "
        f"{_approved_by(version) or 'approved by nobody'}"
        f"{'' if version is versions[-1] or not version.approved_by else ', which is void'}"
        for version in versions
    ]
    return {"versions": "\n".join(said)}


def _approved_by(version: Version) -> str:
    return ", ".join(
        one_line(name) + (" (UNSIGNED)" if name in version.unsigned else "")
        for name in version.approved_by
    )


def _place_rows(view: HoldView, plan: PlanView | None) -> dict[str, str]:
    """Return what is said of the place of an action in its proposal."""
    place = view.place
    if place is None:
        return {}
    named = f" ({one_line(plan.proposal_id)}, of {one_line(plan.source)})" if plan else ""
    return {
        "proposal": f"{place.proposal}{named}",
        "action id": place_name(place.action_id, compensates=place.compensates),
        "type": place.type.value,
    }


def _consequence_rows(view: HoldView, plan: PlanView | None) -> dict[str, str]:
    """Return what else an approval covers: nothing, for a single call."""
    hold = view.seen
    if view.place is None:
        return {}
    compensation = "none" if hold.compensation is None else pretty(hold.compensation)
    if plan is not None and plan.compensation is not None:
        action = plan.compensation
        compensation = f"{_what(action.type, action.tool)} {pretty(action.parameters)}"
        if action.expected_effects:
            compensation += f"\nwhich writes {pretty(action.expected_effects)}"
        if isinstance(hold.compensation, dict) and "action_id" in hold.compensation:
            compensation = f"action {one_line(hold.compensation['action_id'])}: {compensation}"
    return {
        "expected effects": pretty(hold.expected_effects) if hold.expected_effects else "none",
        "compensation": compensation,
        "attempts": f"1, and {hold.retries} more if it fails" if hold.retries else "1",
    }


def plan_table(plan: PlanView, view: HoldView) -> Table:
    """Return a proposal as people see it: what has become of each action, and what waits."""
    table = Table(box=None, pad_edge=False)
    for name in ("action", "what", "status", ""):
        table.add_column(name, overflow="fold")
    for action in plan.actions:
        note = ""
        if action.uid == view.hold.uid:
            note = "this action"
        elif action.waits:
            note = "waits for this action"
        elif action.reserved:
            note = "runs only as a compensation"
        table.add_row(
            Text(place_name(action.action_id, compensates=action.compensates)),
            Text(_what(action.type, action.tool)),
            "not started" if action.status is ActionStatus.PROPOSED else action.status.value,
            note,
        )
    return table


def place_name(action_id: str, *, compensates: bool) -> str:
    """Return the name of an action of a proposal, safe to print, as that of what runs."""
    return f"{'compensation of ' if compensates else ''}{one_line(action_id)}"


def _what(kind: ActionType, tool: str | None) -> str:
    return kind.value if tool is None or kind is not ActionType.TOOL_CALL else one_line(tool)
