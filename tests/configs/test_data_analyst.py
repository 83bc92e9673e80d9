"""The data analyst's deployment through the whole gate."""

from __future__ import annotations

from pathlib import Path

from support.clock import Clock
from support.deployments import DATA_ANALYST
from support.driver import Driver
from support.people import Person

SHARE = {"path": "exports/regions.csv", "visibility": "named", "to": ["kim@acme.example"]}
CUSTOMERS = {
    "sql": "SELECT city, count(*) FROM customers GROUP BY city",
    "max_rows": 200,
    "purpose": "customers by city, for the plan of new shops",
}


async def open_for_business(gate: Driver) -> None:
    """Register the tools."""
    for name in (
        "run_query",
        "query_customers",
        "read_free_text",
        "export_table",
        "share_file",
        "run_statement",
    ):
        await gate.tool(name, lambda args: "done")


async def test_numbers_are_asked_for_exported_and_shared_with_a_colleague(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    query = {"sql": "SELECT region, sum(total) FROM orders GROUP BY region", "max_rows": 100}
    async with DATA_ANALYST.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        outcomes = [
            await gate.govern("run_query", query),
            await gate.govern("export_table", {**query, "path": "exports/regions.csv"}),
            await gate.govern("share_file", SHARE),
        ]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 3


async def test_what_changes_data_never_reaches_the_database(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with DATA_ANALYST.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        outcomes = [
            await gate.govern("run_query", {"sql": sql, "max_rows": 1})
            for sql in (
                "DROP TABLE orders",
                "SELECT 1; uPdAtE orders SET total = 0",
                "WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x",
                "SELECT 1\0; DROP TABLE orders",
            )
        ]
        outcomes.append(await gate.govern("run_statement", {"sql": "SELECT 1"}))
    assert [outcome["status"] for outcome in outcomes] == ["rejected"] * 5
    assert gate.ran == []


async def test_customers_data_is_asked_for_with_a_person_and_followed_from_there(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    """Once the session has seen it, erin looks at what leaves, even if a colleague gets it."""
    async with DATA_ANALYST.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        before = await gate.govern("share_file", SHARE)
        held = await gate.govern("query_customers", CUSTOMERS)
        gate.approve(held["uid"], people["dana"], tmp_path)
        seen = await gate.request("resume", uid=held["uid"])
        after = await gate.govern("share_file", {**SHARE, "path": "exports/cities.csv"})
        assert [held["status"], after["status"]] == ["held", "held"]
        assert after["hold"]["approvers"] == ["erin"]
        gate.approve(after["uid"], people["erin"], tmp_path)
        shared = await gate.request("resume", uid=after["uid"])
    assert [o["status"] for o in (before, seen, shared)] == ["succeeded"] * 3


async def test_a_partner_gets_a_file_when_two_agree_of_whom_erin_is_one(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with DATA_ANALYST.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        uid = (await gate.govern("share_file", {**SHARE, "to": ["kim@auditor.example"]}))["uid"]
        statuses = []
        for name in ("dana", "frank", "erin"):
            gate.approve(uid, people[name], tmp_path)
            statuses.append((await gate.request("resume", uid=uid))["status"])
    assert statuses == ["held", "held", "succeeded"]


async def test_what_strangers_wrote_makes_sharing_wait(
    tmp_path: Path, people: dict[str, Person], clock: Clock
) -> None:
    async with DATA_ANALYST.gate(tmp_path, people) as gate:
        await open_for_business(gate)
        await gate.govern("read_free_text", {"source": "reviews", "max_rows": 10})
        outcome = await gate.govern("share_file", SHARE)
    assert outcome["status"] == "held"
    assert outcome["decision"]["rules"] == ["egress-after-untrusted"]
    assert [name for name, _ in gate.ran] == ["read_free_text"]
