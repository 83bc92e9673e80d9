"""Start, end and sudden death of a gate, as its client lives through them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from support.client_gates import (
    CLIENT_SOURCE,
    FAKE_GATE,
    LAUNCHER,
    Background,
    fake_gate,
    open_files,
    received,
)
from toolgate_client import GateClient, GateClosed, GateStartError


def script(code: str, *, wait: bool = True) -> subprocess.Popen[str]:
    """Run a program that has a started scripted gate as ``gate``."""
    head = f"""
        import os, signal, sys, threading
        sys.path[:0] = [{str(CLIENT_SOURCE)!r}]
        from toolgate_client import *
        gate = GateClient({{}}, launcher=[sys.executable, {str(FAKE_GATE)!r}]).start()
    """
    # Forking while a thread reads stderr is what the interpreter warns of, and what is tested.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    python = [sys.executable, "-I", *warnings, "-c"]
    process = subprocess.Popen(
        [*python, textwrap.dedent(head) + textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if wait:
        process.stdout_text, process.stderr_text = process.communicate(timeout=30)  # type: ignore[attr-defined]
    return process


def gone(pid: int) -> bool:
    """Whether a process that is not our child has ended, soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        os.sched_yield()
    return False


class TestStart:
    def test_a_started_client_knows_its_session(self) -> None:
        with fake_gate(project="acme") as gate:
            assert gate.session == "s1"
            assert gate.project == "acme"
            assert gate.warnings == ("the journal is in memory",)
            assert not gate.closed

    def test_starting_again_does_nothing(self) -> None:
        gate = fake_gate()
        with gate.start() as same:
            assert same is gate
            assert gate.start() is gate
            gate.ping()

    def test_a_gate_that_fails_tells_why(self) -> None:
        with pytest.raises(GateStartError, match=r"exit code 1(?s:.*)no such file: acme") as caught:
            fake_gate(fake={"start": "fail"}).start()
        assert caught.value.exit_code == 1
        assert "acme.yaml" in caught.value.stderr

    @pytest.mark.parametrize("start", ["hang", "stubborn"])
    def test_a_gate_that_is_late_is_ended(self, start: str) -> None:
        before = open_files()
        began = time.monotonic()
        with pytest.raises(GateStartError, match=r"not ready within 0\.3 s"):
            fake_gate(fake={"start": start}, start_timeout=0.3).start()
        assert time.monotonic() - began < 5
        assert open_files() == before

    def test_another_protocol_is_a_start_error(self) -> None:
        with pytest.raises(GateStartError, match=r"protocol '2'.*upgrade"):
            fake_gate(fake={"start": "other protocol"}).start()

    def test_what_a_launcher_prints_before_the_gate_is_ready_does_no_harm(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with fake_gate(fake={"start": "chatty"}) as gate:
            gate.ping()
        assert "warning: hello" in capfd.readouterr().err

    def test_what_a_failing_gate_prints_is_in_the_error_only(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(GateStartError):
            fake_gate(fake={"start": "fail"}).start()
        assert capfd.readouterr().err == ""

    def test_a_program_that_is_no_gate_is_shown_with_what_it_said(self) -> None:
        gate = GateClient("x", launcher=["/bin/echo", "Usage: whatever"])
        with pytest.raises(GateStartError, match="Usage: whatever"):
            gate.start()

    def test_a_failed_start_may_be_tried_again(self, tmp_path: Path) -> None:
        config = tmp_path / "gate.json"
        config.write_text('{"fake": {"start": "fail"}}')
        gate = GateClient(config, launcher=LAUNCHER)
        with pytest.raises(GateStartError):
            gate.start()
        config.write_text("{}")
        with gate:
            gate.ping()


class TestClose:
    def test_close_shuts_the_gate_down_and_gives_everything_back(self) -> None:
        before = open_files(), threading.active_count()
        gate = fake_gate().start()
        process = gate._gate.process  # type: ignore[union-attr]
        gate.close()
        assert gate.closed
        assert process.exit_code() == 0
        assert (open_files(), threading.active_count()) == before

    def test_closing_twice_is_closing_once(self) -> None:
        gate = fake_gate().start()
        gate.close()
        gate.close()
        with gate._lock:
            pass

    def test_many_threads_may_close_at_once(self) -> None:
        gate = fake_gate().start()
        for closing in [Background(gate.close) for _ in range(8)]:
            closing.result()

    def test_after_close_every_call_says_closed(self) -> None:
        gate = fake_gate().start()
        gate.close()
        for use in (
            gate.ping,
            gate.start,
            gate.holds,
            lambda: gate.govern("t", {}),
            lambda: gate.call("t", {}),
            lambda: gate.resume("u"),
            lambda: gate.withdraw("u"),
            lambda: gate.register_tool("t", print),
        ):
            with pytest.raises(GateClosed, match="this gate client is closed"):
                use()
        assert gate.session == "s1"

    def test_a_client_closed_before_its_start_stays_closed(self) -> None:
        gate = fake_gate()
        gate.close()
        with pytest.raises(GateClosed):
            gate.start()

    def test_an_exception_in_the_block_closes_and_passes(self) -> None:
        with pytest.raises(ZeroDivisionError), fake_gate() as gate:
            raise ZeroDivisionError
        assert gate.closed

    def test_close_ends_waiting_calls_at_once(self) -> None:
        gate = fake_gate().start()
        waiting = [Background(lambda: gate.resume("never", wait=None)) for _ in range(4)]
        while len(received(gate, "resume")) < len(waiting):
            pass
        gate.close()
        for call in waiting:
            with pytest.raises(GateClosed):
                call.result()

    def test_a_gate_that_does_not_shut_down_is_killed(self) -> None:
        gate = fake_gate(fake={"start": "ignores shutdown"}, limits={"drain_ms": -5800}).start()
        gate.close()
        with pytest.raises(GateClosed) as caught:
            gate.ping()
        assert caught.value.exit_code == -signal.SIGKILL

    def test_a_body_that_closes_its_own_client_ends(self) -> None:
        gate = fake_gate(limits={"drain_ms": 0}).start()
        with pytest.raises(GateClosed):
            gate.call("t", {}, body=lambda args: gate.close())

    def test_a_dropped_client_lets_its_gate_go(self) -> None:
        gate = fake_gate().start()
        before = len(open_files())
        pid = gate._gate.process._popen.pid  # type: ignore[union-attr]
        kept = [gate]
        del gate

        def drop() -> None:
            kept.clear()
            gc.collect()

        with pytest.warns(ResourceWarning, match="still running"):
            drop()
        assert gone(pid)
        assert len(open_files()) <= before - 2


class TestDeath:
    @pytest.mark.parametrize(
        ("tool", "code", "words"),
        [
            ("die", 3, r"exit code 3\); the last it printed:\nfirst line\nthe disk is on fire"),
            ("killed", -9, "killed by SIGKILL"),
            ("close_output", -9, "killed by SIGKILL"),
        ],
    )
    def test_a_gate_that_dies_in_a_call_is_reported(self, tool: str, code: int, words: str) -> None:
        with fake_gate() as gate:
            with pytest.raises(GateClosed, match=words) as caught:
                gate.govern(tool, {})
            assert caught.value.exit_code == code
            assert gate.closed
            with pytest.raises(GateClosed, match=words):
                gate.ping()
        with pytest.raises(GateClosed):
            gate.ping()

    def test_every_waiting_caller_is_told_at_once(self) -> None:
        with fake_gate() as gate:
            waiting = [Background(lambda: gate.govern("silent", {})) for _ in range(20)]
            while len(received(gate, "govern")) <= len(waiting):
                pass
            began = time.monotonic()
            with pytest.raises(GateClosed):
                gate.govern("die", {})
            errors = []
            for call in waiting:
                with pytest.raises(GateClosed, match="disk is on fire") as caught:
                    call.result()
                errors.append(caught.value)
            assert time.monotonic() - began < 5
            assert len(set(map(id, errors))) == len(errors)

    def test_a_body_is_not_begun_for_a_dead_gate(self) -> None:
        with fake_gate() as gate:
            began: list[int] = []

            def body(args: dict[str, Any]) -> None:
                began.append(1)

            with pytest.raises(GateClosed, match="exit code 4"):
                gate.govern("die_while_running", {}, body=body)
            assert len(began) <= 1  # unless the run was read before the end was

    def test_a_result_that_nobody_recorded_is_not_returned(self) -> None:
        with fake_gate() as gate, pytest.raises(GateClosed, match="exit code 5"):
            gate.govern("die_after_result", {}, body=lambda args: "done")

    def test_the_last_lines_it_printed_are_kept_and_no_more(self) -> None:
        with fake_gate() as gate, pytest.raises(GateClosed) as caught:
            gate.govern("prints_and_dies", {})
        lines = caught.value.stderr.splitlines()
        assert lines[-1] == "line 9999"
        assert len(lines) <= 50

    def test_an_interrupted_body_is_raised_even_if_the_gate_dies_of_it(self) -> None:
        def body(args: dict[str, Any]) -> None:
            raise KeyboardInterrupt

        with fake_gate() as gate, pytest.raises(KeyboardInterrupt):
            gate.govern("die_after_result", {}, body=body)


class TestProcesses:
    def test_a_client_that_is_killed_takes_its_gate_with_it(self) -> None:
        process = script(
            "print(gate._gate.process._popen.pid, flush=True); gate.govern('silent', {})",
            wait=False,
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.communicate(timeout=20)
        assert gone(pid)

    def test_a_program_may_end_without_closing(self) -> None:
        process = script("print(gate._gate.process._popen.pid); gate.ping()")
        assert process.returncode == 0
        assert gone(int(process.stdout_text))  # type: ignore[attr-defined]

    def test_a_program_may_end_with_a_call_in_a_daemon_thread(self) -> None:
        process = script(
            """
            begun = threading.Event()
            def body(args):
                begun.set()
                threading.Event().wait()
            for tool in ("silent", "t"):
                call = lambda tool=tool: gate.govern(tool, {}, body=body)
                threading.Thread(target=call, daemon=True).start()
            begun.wait()
            print("end")
            """
        )
        assert (process.returncode, process.stdout_text) == (0, "end\n")  # type: ignore[attr-defined]

    def test_ctrl_c_in_the_terminal_reaches_the_client_alone(self) -> None:
        # The scripted gate interrupts the client's whole process group, as a terminal does.
        process = script(
            """
            try:
                gate.resume("ctrl-c", wait=None)
            except KeyboardInterrupt:
                gate.ping()
                cancelled = [m for m in gate.govern("record", {}).output if m["method"] == "cancel"]
                print("alive", len(cancelled))
                gate.close()
            """
        )
        assert (process.returncode, process.stdout_text) == (0, "alive 1\n")  # type: ignore[attr-defined]

    def test_a_forked_child_cannot_use_or_harm_the_parents_gate(self) -> None:
        process = script(
            """
            writing, reading = gate._gate.process.write_fd, gate._gate.process.read_fd
            pid = os.fork()
            if pid == 0:
                for fd in (writing, reading):
                    try:
                        os.fstat(fd)
                        os._exit(3)
                    except OSError:
                        pass
                try:
                    gate.ping()
                    os._exit(1)
                except GateClosed:
                    os._exit(2)
                except GateError as error:
                    assert "forked" in str(error), error
                gate.close()
                with GateClient({}, launcher=gate._launcher) as own:
                    own.ping()
                sys.exit(0)  # with everything an interpreter does at its end
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            gate.ping()
            gate.close()
            print("fine")
            """
        )
        assert process.stdout_text == "fine\n", process.stderr_text  # type: ignore[attr-defined]

    def test_a_forked_child_leaves_the_parents_subscription_alone(self) -> None:
        process = script(
            """
            events = gate.subscribe()
            pid = os.fork()
            if pid == 0:
                try:
                    next(events)
                    os._exit(1)
                except GateError as error:
                    assert "forked" in str(error), error
                events.close()
                del events
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            gate.govern("happens", {"times": 2})
            assert [next(events).seq for _ in range(2)] == [1, 2]
            gate.close()
            assert list(events) == []
            print("fine")
            """
        )
        assert process.stdout_text == "fine\n", process.stderr_text  # type: ignore[attr-defined]

    def test_a_program_may_end_with_a_subscription_that_is_waited_for(self) -> None:
        process = script(
            """
            events = gate.subscribe()
            waits = threading.Thread(target=lambda: next(events), daemon=True)
            waits.start()
            gate.ping()
            print("fine")
            """
        )
        assert process.stdout_text == "fine\n", process.stderr_text  # type: ignore[attr-defined]
        assert process.stderr_text == ""  # type: ignore[attr-defined]

    def test_a_child_that_outlives_its_parent_does_not_keep_the_gate(self) -> None:
        process = script(
            """
            print(gate._gate.process._popen.pid, flush=True)
            if os.fork() == 0:
                sys.stdin.read()
                os._exit(0)
            os._exit(0)
            """,
            wait=False,
        )
        assert process.stdout is not None
        assert gone(int(process.stdout.readline()))
        process.communicate(timeout=20)

    def test_the_gate_is_in_a_session_of_its_own(self) -> None:
        with fake_gate() as gate:
            pid = gate._gate.process._popen.pid  # type: ignore[union-attr]
            assert os.getsid(pid) == pid != os.getsid(0)

    def test_no_descriptor_of_the_pipes_is_inherited(self) -> None:
        with fake_gate() as gate:
            process = gate._gate.process  # type: ignore[union-attr]
            for fd in (process.write_fd, process.read_fd):
                assert not os.get_inheritable(fd)
