"""Never run: mypy checks that the public interface has the types that users rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, assert_type

from toolgate_client import (
    ActionDenied,
    ActionError,
    ActionFailed,
    ActionHeld,
    Decision,
    ErrorInfo,
    GateClient,
    GateClosed,
    GateError,
    GateStartError,
    Hold,
    Outcome,
    ProtocolError,
    default_encoder,
)


def body(args: dict[str, Any]) -> list[str]:
    return sorted(args)


async def coroutine_body(args: dict[str, Any]) -> int:
    return len(args)


def constructing() -> None:
    GateClient("gate.yaml")
    GateClient(Path("gate.yaml"), launcher=("uvx", "toolgate"), start_timeout=5)
    GateClient({"project": "p", "policy": {"file": Path("p.yaml")}}, encoder=default_encoder)
    GateClient()  # type: ignore[call-arg]
    GateClient(b"gate.yaml")  # type: ignore[arg-type]
    GateClient("gate.yaml", ["uvx"])  # type: ignore[call-arg]


def using(client: GateClient) -> None:
    with client as gate:
        assert_type(gate, GateClient)
    assert_type(client.start(), GateClient)
    assert_type(client.session, str)
    assert_type(client.project, str)
    assert_type(client.warnings, tuple[str, ...])
    assert_type(client.closed, bool)
    assert_type(client.register_tool("t", body, parameters={"type": "object"}), dict[str, Any])
    client.register_tool("t", coroutine_body, returns={}, idempotent=True, description="d")
    client.register_tool("t", 7)  # type: ignore[arg-type]
    assert_type(client.govern("t", {"x": 1}), Outcome)
    client.govern("t", {}, idempotency_key="k", timeout=1, body=body, metadata={"m": 1})
    client.govern("t", [1])  # type: ignore[arg-type]
    assert_type(client.call("t", {}, body=lambda args: args["x"]), Any)
    assert_type(client.resume("u"), Outcome)
    client.resume("u", wait=None, body=body)
    client.resume("u", 5.0)  # type: ignore[call-arg]
    assert_type(client.withdraw("u"), Outcome)
    assert_type(client.holds("pending"), list[Hold])
    client.ping()
    client.close()


def reading(outcome: Outcome) -> None:
    assert_type(outcome.uid, str)
    assert_type(outcome.output, Any)
    assert_type(outcome.error, ErrorInfo | None)
    assert_type(outcome.hold, Hold | None)
    assert_type(outcome.decision, Decision | None)
    assert_type(outcome.exception, Exception | None)
    assert_type(outcome.duration_ms, float | None)
    assert_type(outcome.attempts, int)
    assert_type(outcome.succeeded, bool)
    assert_type(outcome.live, bool)
    outcome.uid = "other"  # type: ignore[misc]
    assert_type(
        outcome.status,
        Literal["succeeded", "held", "rejected", "failed", "skipped", "executing"],
    )


def failing(client: GateClient) -> None:
    try:
        client.call("t", {})
    except (ActionDenied, ActionHeld, ActionFailed) as error:
        assert_type(error.kind, str)
        assert_type(error.reason, str)
        assert_type(error.uid, str)
        assert_type(error.hold, Hold | None)
        assert_type(error.outcome, Outcome | None)
    except (GateClosed, GateStartError) as error:
        assert_type(error.exit_code, int | None)
        assert_type(error.stderr, str)
    except ProtocolError as error:
        assert_type(error.code, int)
        assert_type(error.data, Any)
    except ActionError as error:
        base: GateError = error
        raise base from None
