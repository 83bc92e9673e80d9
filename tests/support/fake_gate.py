"""A scripted gate: speaks the wire of toolgate over stdio and behaves, or misbehaves, as told.

Run as ``python fake_gate.py serve --config FILE``. FILE is JSON; its ``fake`` object may hold
``start`` (how it starts, see :func:`main`) and ``max_in_flight``. What a governed call does is
decided by the name of its tool: see :data:`TOOLS`; what a proposal does, by its ``context``: see
:class:`Plan`. It reads and writes in turn on blocking pipes, so it takes no input while its output
is not drained.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Message = dict[str, Any]


class FakeGate:
    """One connection."""

    def __init__(self, config: Message) -> None:
        self.config = config.get("fake", {})
        self.buffer = b""
        self.wakeup, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        self.received: list[Message] = []
        self.keep = True
        self.calls: dict[int, Message] = {}
        self.plans: dict[str, Plan] = {}
        self.runs: dict[int, Callable[[Message], None]] = {}
        self.next_run = 0
        self.late: int | None = None
        self.given_up: int | None = None
        self.silent: list[int] = []
        self.answers: dict[int, Message] = {}
        self.contradictions: list[Any] = []
        self.events = self.config.get("events", 0)
        self.subscriptions: dict[int, tuple[int, int]] = {}

    # --- pipes

    def send(self, message: Message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    @contextmanager
    def in_one_write(self) -> Iterator[None]:
        written: list[bytes] = []
        self.write = written.append  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del self.write
            self.write(b"".join(written))

    def read(self) -> Message | None:
        while b"\n" not in self.buffer:
            # A signal that comes just before a read would wait for the read to end.
            if self.wakeup not in select.select([0, self.wakeup], [], [])[0]:
                data = os.read(0, 1 << 20)
            else:
                os.read(self.wakeup, 1 << 10)
                continue
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        message: Message = json.loads(line)
        return message

    # --- messages

    def run(self, call: int, params: Message, then: Callable[[Message], None], **more: Any) -> int:
        self.next_run += 1
        self.runs[self.next_run] = then
        run = {
            "call": call,
            "tool": params["tool"],
            "args": params["args"],
            "uid": f"u{call}",
            "attempt": 1,
            "timeout_ms": 30000,
            **more,
        }
        self.send({"id": self.next_run, "method": "run_tool", "params": run})
        return self.next_run

    def outcome(self, call: int, status: str, **more: Any) -> None:
        self.calls.pop(call, None)
        uid = f"u{call}"
        result = {"status": status, "uid": uid, "action_id": uid, "attempts": 1, **more}
        self.send({"id": call, "result": {"replayed": False, "state_changes": {}, **result}})

    def settle(self, call: int, uid: str | None = None) -> Callable[[Message], None]:
        """What to do with the reply to a run: answer the call with what came of it."""
        uid = uid or f"u{call}"

        def then(reply: Message) -> None:
            if "error" in reply:
                error = {
                    "kind": "execution_failed",
                    "message": reply["error"]["message"],
                    "details": reply["error"]["data"],
                }
                self.outcome(call, "failed", uid=uid, action_id=uid, error=error)
            else:
                output = reply["result"]["output"]
                self.outcome(call, "succeeded", uid=uid, action_id=uid, output=output)

        return then

    def serve(self) -> None:
        while (message := self.read()) is not None:
            if self.keep:
                self.received.append(message)
            method = message.get("method")
            if method is None:
                then = self.runs.pop(message["id"], None)
                if then is not None:
                    then(message)
                elif self.answers.get(message["id"]) != message:
                    self.contradictions.append([self.answers.get(message["id"]), message])
                if self.keep:
                    self.answers.setdefault(message["id"], message)
            elif method == "shutdown":
                for id in list(self.subscriptions):
                    self.end_subscription(id)
                self.send({"id": message["id"], "result": {}})
                return
            else:
                getattr(self, "on_" + method)(message.get("id"), message.get("params"))

    def speak(self, *signal: Any) -> None:
        call = self.silent.pop(0)
        self.outcome(call, "succeeded", output=self.calls[call]["args"])

    def on_ping(self, id: int, params: Message) -> None:
        if self.late is not None:
            time_out(self, self.late)
            self.late = None
        if self.given_up is not None:
            self.cancel_tool(self.given_up)
            self.given_up = None
        self.send({"id": id, "result": {}})

    def cancel_tool(self, call: int) -> None:
        params = {"uid": f"u{call}", "reason": "timeout"}
        self.send({"method": "cancel_tool", "params": params})

    def on_register_tool(self, id: int, params: Message) -> None:
        if params["name"] == "conflicting":
            self.send({"id": id, "error": {"code": -32004, "message": "another schema", "data": 7}})
        else:
            contract = {"level": 3, "idempotent": params["idempotent"]}
            self.send({"id": id, "result": {"name": params["name"], "contract": contract}})

    def full(self, id: int) -> bool:
        if len(self.calls) < self.config.get("max_in_flight", 1 << 30):
            return False
        self.send({"id": id, "error": {"code": -32003, "message": "too many in flight"}})
        return True

    def on_govern(self, id: int, params: Message) -> None:
        if not self.full(id):
            self.calls[id] = params
            TOOLS.get(params["tool"], allowed)(self, id, params)

    def on_propose(self, id: int, params: Message) -> None:
        if not self.full(id):
            self.calls[id] = params
            plan = Plan(self, id, params["proposal"])
            self.plans[plan.uid] = plan
            plan.start()

    def on_events(self, id: int, params: Message) -> None:
        after, limit = params["after"], params["limit"]
        last = min(self.events, after + limit)
        told = [event(seq) for seq in range(after + 1, last + 1)]
        self.send({"id": id, "result": {"events": told, "next": last if told else None}})

    def on_subscribe(self, id: int, params: Message) -> None:
        after = params.get("after", self.events)
        if after > self.events:
            self.send({"id": id, "error": {"code": -32602, "message": "after: the log ends"}})
            return
        self.subscriptions[id] = after, params["limit"]
        self.tell(id)

    def tell(self, id: int) -> None:
        after, left = self.subscriptions[id]
        while after < self.events and left:
            after, left = after + 1, left - 1
            told = event(after) if after != self.config.get("no_event") else {"seq": "?"}
            self.send({"method": "event", "params": {"subscription": id, "event": told}})
        self.subscriptions[id] = after, left
        if not left:
            self.end_subscription(id)

    def end_subscription(self, id: int) -> None:
        after, _ = self.subscriptions.pop(id)
        self.send({"id": id, "result": {"after": after}})

    def on_verify(self, id: int, params: Message) -> None:
        issue = {"severity": "error", "code": "unknown_tool", "message": "m", "tier": "heuristic"}
        result = {
            "valid": False,
            "issues": [{"action_id": None, **issue}],
            "simulated_state": {"k": 1},
            "execution_levels": [["a", "b"], ["c"]],
            "conflicts": [["a", "b", "k"]],
        }
        self.send({"id": id, "result": result})

    def on_simulate(self, id: int, params: Message) -> None:
        self.send({"id": id, "result": {"state": {"k": 1}}})

    def on_equivalent(self, id: int, params: Message) -> None:
        differences = [] if params["a"] == params["b"] else [{"state": {}, "a": {"x": 1}, "b": {}}]
        result = {"equivalent": not differences, "differences": differences}
        self.send({"id": id, "result": result})

    def on_optimize(self, id: int, params: Message) -> None:
        removed = [{"action_id": "a", "kind": "dependency", "on": "b"}]
        self.send({"id": id, "result": {"proposal": params["proposal"], "removed": removed}})

    def on_rank(self, id: int, params: Message) -> None:
        ranked = {"proposal_id": "p", "score": 0.5, "valid": True, "success_likelihood": 1.0}
        ranking = [{"index": 0, **ranked, "cost_efficiency": 0.25}]
        self.send({"id": id, "result": {"ranking": ranking}})

    def on_state(self, id: int, params: Message) -> None:
        values = {"a": 1, "b": None}
        keys = params.get("keys", values)
        self.send({"id": id, "result": {key: values[key] for key in keys if key in values}})

    def on_observe(self, id: int, params: Message) -> None:
        labels = {"untrusted": ["untrusted"], "trusted": []}.get(params["trust"])
        self.send({"id": id, "result": {} if params["text"] == "bad" else {"labels": labels}})

    def on_checkpoint(self, id: int, params: Message) -> None:
        self.send({"id": id, "result": {"checkpoint_id": "c-" + params["name"]}})

    def on_restore(self, id: int, params: Message) -> None:
        result: Message = {"status": "succeeded", "state_changes": {"a": 1}}
        if params["checkpoint_id"] != "c-mine":
            error = {"kind": "policy_denied", "message": "not yours"}
            result = {"status": "rejected", "error": error, "state_changes": {}}
        self.send({"id": id, "result": result})

    def on_resume(self, id: int, params: Message) -> None:
        self.calls[id] = params
        if params["uid"] == "never":
            return
        if params["uid"] == "ctrl-c":
            os.killpg(os.getpgid(os.getppid()), signal.SIGINT)
            # And something to read, for the same reason as in `read`.
            self.send({"method": "event", "params": {}})
            return
        uid = params["uid"]
        plan = self.plans.get(uid.split("-")[0])
        if plan is not None:
            plan.resume(id, uid)
            return
        tool = {"tool": "echo", "args": {"resumed": uid, "wait_ms": params["wait_ms"]}}
        self.run(id, tool, self.settle(id, uid), uid=uid)

    def on_withdraw(self, id: int, params: Message) -> None:
        self.outcome(id, "rejected", uid=params["uid"], error={"kind": "cancelled", "message": "w"})

    def on_holds(self, id: int, params: Message) -> None:
        page = params.get("after", 0)
        hold = {
            "hold_id": f"h{page}",
            "uid": "u",
            "status": params.get("status", "pending"),
            "approvers": ["alice"],
            "args": {},
        }
        self.send({"id": id, "result": {"holds": [hold], "next": page + 1 if page < 2 else None}})

    def on_cancel(self, id: None, params: Message) -> None:
        if params["id"] in self.subscriptions:
            self.end_subscription(params["id"])
            return
        call = self.calls.get(params["id"])
        if call is None:
            return
        for plan in self.plans.values():
            if plan.call == params["id"]:
                plan.cancel()
                return
        if call.get("tool") == "run_after_cancel":
            self.run(params["id"], call, lambda reply: None)
        self.outcome(params["id"], "rejected", error={"kind": "cancelled", "message": "cancelled"})


class Plan:
    """A proposal. Its ``context`` may say

    - ``together``: false for one action after another; else all of them run at once
    - ``twice``: every run is sent twice
    - ``stray``: runs of no call are sent before
    - ``cancelled``: ids of actions whose tool is cancelled when it has been sent
    - ``answers``: what is answered at once, with nothing run
    - ``rollback``: part of what is answered, which makes it an aborted one

    Actions of the tool ``held`` are held, those of ``denied`` rejected, those of ``silent`` are not
    run before the proposal is cancelled, and after that not either.
    """

    def __init__(self, gate: FakeGate, call: int, proposal: Message) -> None:
        self.gate = gate
        self.call = call
        self.uid = f"p{call}"
        self.id = proposal.get("id", "local")
        self.actions: list[Message] = proposal["actions"]
        self.context: Message = proposal.get("context", {})
        self.results: dict[int, Message] = {}
        self.running: set[int] = set()
        self.cancelled = False
        self.resumed: str | None = None

    def start(self) -> None:
        if "answers" in self.context:
            self.gate.calls.pop(self.call)
            self.gate.send({"id": self.call, "result": self.context["answers"]})
            return
        with self.gate.in_one_write():
            if self.context.get("stray"):
                for call in (0, self.call + 1000):
                    params = {"tool": "t", "args": {}}
                    self.gate.run(call, params, lambda reply: None, uid="nobody's")
            self.go_on()
            for number, action in enumerate(self.actions, 1):
                if action["id"] in self.context.get("cancelled", ()):
                    note = {"uid": f"{self.uid}-{number}", "reason": "timeout"}
                    self.gate.send({"method": "cancel_tool", "params": note})

    def go_on(self) -> None:
        for number, action in enumerate(self.actions, 1):
            if number in self.results or number in self.running:
                continue
            if self.running and not self.context.get("together", True):
                break
            if self.cancelled:
                self.note(number, "skipped", error="cancelled", kind="cancelled")
            elif action["tool"] == "held":
                self.note(number, "held", hold={"hold_id": f"h{number}", "reason": "money"})
            elif action["tool"] == "denied":
                self.note(number, "rejected", error="no", kind="policy_denied", details={"r": 1})
            elif action["tool"] != "silent":
                self.run(number, action)
        if len(self.results) == len(self.actions):
            self.end()

    def run(self, number: int, action: Message) -> None:
        self.running.add(number)
        args = action.get("parameters", {})
        params = {"tool": action["tool"], "args": args}

        def then(reply: Message) -> None:
            self.running.discard(number)
            if "error" in reply:
                error = reply["error"]
                details = error["data"]
                self.note(
                    number,
                    "failed",
                    error=error["message"],
                    kind="execution_failed",
                    details=details,
                )
            else:
                self.note(number, "succeeded", output=reply["result"]["output"])
            self.go_on()

        run = self.gate.run(self.call, params, then, uid=f"{self.uid}-{number}")
        if self.context.get("twice"):
            self.gate.runs.pop(run)
            self.gate.next_run -= 1
            self.gate.run(self.call, params, then, uid=f"{self.uid}-{number}")

    def note(self, number: int, status: str, **more: Any) -> None:
        self.results[number] = {
            "action_id": self.actions[number - 1]["id"],
            "uid": f"{self.uid}-{number}",
            "status": status,
            "state_changes": {},
            "attempts": 1,
            "rolled_back": False,
            "replayed": False,
            "timestamp": "2030-01-01T00:00:00Z",
            **more,
        }

    def result(self) -> Message:
        results = [self.results[number] for number in sorted(self.results)]
        statuses = [result["status"] for result in results]
        result: Message = {
            "proposal_id": self.id,
            "uid": self.uid,
            "status": "suspended" if "held" in statuses else "completed",
            "results": results,
            "cost": {"tool_calls": statuses.count("succeeded"), "total_duration_ms": 1.5},
        }
        if "rollback" in self.context:
            result.update(status="aborted", rollback=self.context["rollback"])
        return result

    def end(self) -> None:
        self.gate.calls.pop(self.call)
        result = self.result()
        if self.resumed is None:
            self.gate.send({"id": self.call, "result": result})
        else:
            status = {"completed": "succeeded", "suspended": "held"}[result["status"]]
            about = {"status": status, "uid": self.uid}
            for action in result["results"]:
                if action["uid"] == self.resumed:
                    about = {key: action[key] for key in ("status", "uid", "action_id", "output")}
            self.gate.send({"id": self.call, "result": {**about, "proposal": result}})

    def resume(self, call: int, uid: str) -> None:
        self.call, self.resumed = call, uid
        with self.gate.in_one_write():
            for number, result in list(self.results.items()):
                if result["status"] == "held":
                    del self.results[number]
                    self.run(number, self.actions[number - 1])
            self.go_on()

    def cancel(self) -> None:
        self.cancelled = True
        self.go_on()


# --- what the tools do


def allowed(gate: FakeGate, call: int, params: Message) -> None:
    """Any other name: run the body, and answer with what came of it."""
    gate.run(call, params, gate.settle(call))


def denied(gate: FakeGate, call: int, params: Message) -> None:
    gate.outcome(
        call,
        "rejected",
        error={"kind": "policy_denied", "message": "rule no-x forbids it", "details": {"r": 1}},
        decision={"effect": "deny", "rules": ["no-x"], "reason": "rule no-x forbids it"},
        attempts=0,
    )


def held(gate: FakeGate, call: int, params: Message) -> None:
    hold = {
        "hold_id": "h1",
        "reason": "money",
        "rule": "ask",
        "rules": ["ask"],
        "approvers": ["alice", "bob"],
        "quorum": 2,
        "approved_by": ["bob"],
        "groups": [
            {"rule": "ask", "approvers": ["alice", "bob"], "quorum": 2, "approved_by": ["bob"]}
        ],
        "missing": [{"approvers": ["alice"], "quorum": 1, "rules": ["ask"]}],
        "deadline": "2030-01-01T00:00:00Z",
    }
    gate.outcome(call, "held", hold=hold)


def replayed(gate: FakeGate, call: int, params: Message) -> None:
    gate.outcome(call, "succeeded", output={"recorded": True}, replayed=True)


def skipped(gate: FakeGate, call: int, params: Message) -> None:
    gate.outcome(call, "skipped", error={"kind": "budget_exceeded", "message": "no more"})


def executing(gate: FakeGate, call: int, params: Message) -> None:
    gate.outcome(call, "executing")


def silent(gate: FakeGate, call: int, params: Message) -> None:
    """Answered when a SIGUSR1 comes, the oldest first."""
    gate.silent.append(call)


def die(gate: FakeGate, call: int, params: Message) -> None:
    os.write(2, b"first line\nthe disk is on fire\n")
    os._exit(3)


def prints_and_dies(gate: FakeGate, call: int, params: Message) -> None:
    os.write(2, b"".join(b"line %d\n" % number for number in range(10_000)))
    os._exit(6)


def killed(gate: FakeGate, call: int, params: Message) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_running(gate: FakeGate, call: int, params: Message) -> None:
    gate.run(call, params, lambda reply: None)
    os._exit(4)


def die_after_result(gate: FakeGate, call: int, params: Message) -> None:
    gate.run(call, params, lambda reply: os._exit(5))


def close_output(gate: FakeGate, call: int, params: Message) -> None:
    """Lives on, but says nothing any more."""
    os.close(1)


def retried(gate: FakeGate, call: int, params: Message) -> None:
    """A failed first attempt is followed by a second one."""

    def second(reply: Message) -> None:
        if "error" in reply:
            gate.run(call, params, gate.settle(call), attempt=2)
        else:
            gate.settle(call)(reply)

    gate.run(call, params, second)


def time_out(gate: FakeGate, call: int) -> None:
    gate.outcome(call, "failed", error={"kind": "execution_timeout", "message": "too slow"})


def late(gate: FakeGate, call: int, params: Message) -> None:
    """The outcome comes while the body still runs: with the next ping."""
    gate.run(call, params, lambda reply: None)
    gate.late = call


def stopped(gate: FakeGate, call: int, params: Message) -> None:
    """The gate gives up on the body: its tool is cancelled with the next ping."""
    gate.run(call, params, lambda reply: time_out(gate, call))
    gate.given_up = call


def stopped_at_once(gate: FakeGate, call: int, params: Message) -> None:
    """The tool is cancelled in the write that its run comes in."""
    with gate.in_one_write():
        gate.run(call, params, lambda reply: time_out(gate, call))
        gate.cancel_tool(call)


def too_late(gate: FakeGate, call: int, params: Message) -> None:
    """The outcome comes with the run, in one write."""
    with gate.in_one_write():
        gate.run(call, params, lambda reply: None)
        time_out(gate, call)


def record(gate: FakeGate, call: int, params: Message) -> None:
    """Answers with every message received so far, without running anything."""
    gate.outcome(call, "succeeded", output=gate.received, replayed=True)


def state(gate: FakeGate, call: int, params: Message) -> None:
    """Answers with the runs nobody has replied to, and the second replies unlike the first."""
    output = {"unanswered": list(gate.runs), "contradictions": gate.contradictions}
    gate.outcome(call, "succeeded", output=output, replayed=True)


def refused(gate: FakeGate, call: int, params: Message) -> None:
    error = {"code": -32602, "message": "bad parameters", "data": ["/args"]}
    gate.calls.pop(call)
    gate.send({"id": call, "error": error})


def event(seq: int) -> Message:
    """The event of a place in the log of this gate, where all are alike."""
    told = {"kind": "action.proposed", "action": f"u{seq}", "data": {"args": {}}}
    return {"seq": seq, "run": "r", "n": seq, "at": "2026-01-01T00:00:00Z", "session": "s1", **told}


def happens(gate: FakeGate, call: int, params: Message) -> None:
    """Another event, or ``args.times`` of them."""
    gate.events += params["args"].get("times", 1)
    gate.outcome(call, "succeeded", output=gate.events)
    for id in list(gate.subscriptions):
        gate.tell(id)


def shutting_down(gate: FakeGate, call: int, params: Message) -> None:
    gate.calls.pop(call)
    gate.send({"id": call, "error": {"code": -32002, "message": "shutting down"}})


def no_outcome(gate: FakeGate, call: int, params: Message) -> None:
    gate.calls.pop(call)
    gate.send({"id": call, "result": [1]})


def noisy(gate: FakeGate, call: int, params: Message) -> None:
    """Everything a client has to survive, and then an ordinary call."""
    gate.write(b"not json\n\n[1]\n\xff\xfe\n" + b"[" * 100000 + b"\n")
    gate.send({"id": 999999, "result": "of no request"})
    gate.send({"id": None, "error": {"code": -32700, "message": "what was that"}})
    gate.send({"id": "text", "result": 1})
    gate.send({"id": [1], "result": 1})
    gate.send({"id": True, "result": 1})
    gate.send({"method": "event", "params": {"kind": "future"}})
    gate.send({"method": "cancel_tool", "params": {"uid": "u", "reason": "r"}})
    gate.send({"method": "log", "params": {"level": "warning", "message": "take care"}})
    gate.send({"method": "log", "params": None})
    gate.send({"id": 5000, "method": "unheard_of", "params": {}})
    gate.send({"id": 5001, "method": "run_tool", "params": {"call": call}})
    gate.send({"id": 5002, "method": "run_tool", "params": None})
    gate.send({"id": "x", "method": "run_tool", "params": {}})
    allowed(gate, call, params)


def big_backlog(gate: FakeGate, call: int, params: Message) -> None:
    """Send a lot before reading on: a client that only writes would wait for ever."""
    for _ in range(64):
        gate.send({"method": "log", "params": {"level": "debug", "message": "x" * 65536}})
    allowed(gate, call, params)


def fast(gate: FakeGate, call: int, params: Message) -> None:
    """From here on nothing is recorded: for measuring."""
    gate.keep = False
    allowed(gate, call, params)


TOOLS: dict[str, Callable[[FakeGate, int, Message], None]] = {
    "big_backlog": big_backlog,
    "close_output": close_output,
    "denied": denied,
    "die": die,
    "die_after_result": die_after_result,
    "die_while_running": die_while_running,
    "executing": executing,
    "fast": fast,
    "happens": happens,
    "held": held,
    "killed": killed,
    "late": late,
    "no_outcome": no_outcome,
    "noisy": noisy,
    "prints_and_dies": prints_and_dies,
    "record": record,
    "refused": refused,
    "replayed": replayed,
    "retried": retried,
    "run_after_cancel": silent,
    "shutting_down": shutting_down,
    "silent": silent,
    "skipped": skipped,
    "state": state,
    "stopped": stopped,
    "stopped_at_once": stopped_at_once,
    "too_late": too_late,
}


def main() -> None:
    with open(sys.argv[sys.argv.index("--config") + 1], "rb") as file:
        config = json.load(file)
    gate = FakeGate(config)
    ready: Message = {
        "protocol": "1",
        "gate": {"name": "toolgate", "version": "0"},
        "session": "s1",
        "project": config.get("project", "p"),
        "mode": "enforce",
        "warnings": ["the journal is in memory"],
        "limits": config.get("limits"),
        "config": config,
    }
    start = gate.config.get("start", "ready")
    if start == "fail":
        sys.exit("policy.file: no such file: acme.yaml")
    if start == "hang":
        os.write(2, b"still thinking\n")
        gate.read()
    if start == "signals its parent":
        os.kill(os.getppid(), signal.SIGUSR2)
        gate.read()
    if start == "stubborn":  # neither ready, nor ended by the end of input, nor by SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    if start == "other protocol":
        ready["protocol"] = "2"
    if start == "chatty":
        gate.write(b"Installed 40 packages\n")
        os.write(2, b"warning: hello\n")
    gate.send({"method": "ready", "params": ready})
    signal.signal(signal.SIGUSR1, gate.speak)
    if start == "ignores shutdown":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    gate.serve()


if __name__ == "__main__":
    main()
