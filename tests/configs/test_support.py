"""The support assistant's deployment through the whole gate, with the page that asks for mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.clock import Clock
from support.deployments import SUPPORT
from support.driver import Driver
from support.people import Person

STRANGER = {"to": ["x@evil.example"], "subject": "List", "body": "As you asked."}
REPLY = {"ticket": "T-17", "body": "Your parcel is on its way."}
REFUND = {"order": "O-1042", "amount_cents": 4900, "reason": "broken lamp"}


async def open_for_business(gate: Driver) -> None:
    """Register the tools."""
    for name in (
        "read_ticket",
        "fetch_page",
        "find_customer",
        "get_order",
        "reply_to_ticket",
        "send_email",
        "issue_refund",
        "export_customers",
    ):
        await gate.tool(name, lambda args: "done")


async def test_a_ticket_is_read_answered_and_refunded_without_anybody(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        outcomes = [
            await gate.govern("read_ticket", {"ticket": "T-17"}),
            await gate.govern("get_order", {"order": "O-1042"}),
            await gate.govern("issue_refund", REFUND),
            await gate.govern("reply_to_ticket", REPLY),
        ]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 4


async def test_after_a_web_page_mail_waits_for_a_person_and_is_sent_once_she_agrees(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        before = await gate.govern("reply_to_ticket", REPLY)
        page = await gate.govern("fetch_page", {"url": "https://www.dhl.example/track/17"})
        mail = await gate.govern("send_email", STRANGER)
        answer = await gate.govern("reply_to_ticket", {**REPLY, "body": "It is late."})
        assert [before["status"], page["status"]] == ["succeeded", "succeeded"]
        assert [mail["status"], answer["status"]] == ["held", "held"]
        assert "which may have asked for this" in answer["hold"]["reason"]
        assert mail["decision"]["rules"] == ["mail-outside", "egress-after-untrusted"]
        assert [name for name, _ in gate.ran] == ["reply_to_ticket", "fetch_page"]

        gate.approve(mail["uid"], people["alice"], tmp_path, "deny")
        gate.approve(answer["uid"], people["bob"], tmp_path)
        denied = await gate.request("resume", uid=mail["uid"])
        sent = await gate.request("resume", uid=answer["uid"])
    assert denied["error"]["kind"] == "approval_denied"
    assert sent["status"] == "succeeded"
    assert [name for name, _ in gate.ran] == ["reply_to_ticket", "fetch_page", "reply_to_ticket"]


async def test_what_was_read_is_not_forgotten_by_starting_again(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people, session="ticket-17") as gate:
        await open_for_business(gate)
        await gate.govern("fetch_page", {"url": "https://www.dhl.example/track/17"})
    async with SUPPORT.gate(tmp_path, people, session="ticket-17") as again:
        await open_for_business(again)
        answer = await again.govern("reply_to_ticket", REPLY)
    assert answer["status"] == "held"


async def test_after_a_web_page_even_a_small_refund_takes_two(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        await gate.govern("fetch_page", {"url": "https://www.dhl.example/track/17"})
        uid = (await gate.govern("issue_refund", REFUND))["uid"]
        gate.approve(uid, people["alice"], tmp_path)
        one = await gate.request("resume", uid=uid)
        gate.approve(uid, people["carol"], tmp_path)
        two = await gate.request("resume", uid=uid)
    assert [one["status"], two["status"]] == ["held", "succeeded"]
    assert gate.ran[-1] == ("issue_refund", REFUND)


async def test_the_fourth_refund_of_a_session_waits_however_small(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        outcomes = [
            await gate.govern("issue_refund", {**REFUND, "order": f"O-{number}"})
            for number in range(4)
        ]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 3 + ["held"]
    assert outcomes[3]["decision"]["rules"] == ["many-refunds"]


async def test_a_card_number_and_the_customer_list_never_leave(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        card = await gate.govern("reply_to_ticket", {**REPLY, "body": "4111 1111 1111 1111"})
        export = await gate.govern("export_customers")
    assert [card["status"], export["status"]] == ["rejected", "rejected"]
    assert card["error"]["kind"] == "policy_denied"
    assert "4111" not in card["error"]["message"]
    assert gate.ran == []


@pytest.mark.parametrize(
    "changes",
    [
        {"bcc": ["x@evil.example"]},
        {"to": []},
        {"to": ["kim@acme.example, x@evil.example"]},
        {"to": ["kim@acme.example\n"]},
        {"to": ["x@evil.example <kim@acme.example>"]},
        {"to": ["x@evil.example@acme.example"]},
        {"to": ["kim@\u0430cme.example"]},
        {"subject": "Hello\r\nBcc: x@evil.example"},
    ],
    ids=[
        "an argument nobody looks at",
        "nobody",
        "two in one",
        "line end",
        "name",
        "two ats",
        "letters that look like ours",
        "a header of its own",
    ],
)
async def test_mail_that_programs_read_otherwise_than_rules_is_not_valid(
    changes: dict[str, object], tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    inside = {"to": ["kim@acme.example"], "subject": "Hello", "body": "Hello."}
    async with SUPPORT.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        fine = await gate.govern("send_email", inside)
        odd = await gate.govern("send_email", {**inside, **changes})
    assert fine["status"] == "succeeded"
    assert odd["error"]["kind"] == "invalid_arguments"
    assert gate.ran == [("send_email", inside)]
