"""What is drawn at random for the machine that drives two gates."""

from __future__ import annotations

from hypothesis import strategies as st

from support.machine_model import PEOPLE
from support.machine_plans import WRITE, Step, sound

gates = st.sampled_from([0, 1])
picks = st.integers(0, 30)
numbers = st.integers(0, 3)
rarely = st.sampled_from([False, False, True])
edits = st.sampled_from([0, 1, 2, 3, 5, 6, 7, 8, 9])
people = st.sampled_from(PEOPLE)
held_tools = st.sampled_from(["pay", "wire_money", "draft"])
verdicts = st.sampled_from(["approve", "deny"])
ends = st.sampled_from(["succeeded", "failed", "retry"])
bodies = st.lists(
    st.sampled_from(["returns", "returns", "raises", "gate dies", "time runs out"]),
    min_size=1,
    max_size=3,
) | st.sampled_from(
    [
        ["returns", "returns", "raises", "returns"],
        ["returns", "raises", "returns"],
        ["returns", "returns", "raises", "gate dies", "returns"],
        ["caller leaves", "returns"],
        ["returns", "caller leaves"],
    ]
)
"""How the bodies end that one request runs; where there are more, as the last."""
ended = st.sampled_from([["time runs out"], ["time runs out"], ["gate dies"], ["returns"]])
tools = st.sampled_from(["search", "search", "pay", "draft", WRITE])
behaviours = st.sampled_from(["abort", "abort", "retry", "skip"])
after = st.tuples() | st.tuples(numbers) | st.tuples(numbers, numbers)
keys = st.sampled_from([None, "x", "x", "y"])
undo = st.sampled_from(["undo", "undo", "pay"])
of_all_kinds = st.builds(Step, tools, numbers, behaviours, after, st.booleans(), keys, undo)
to_be_undone = st.builds(Step, st.just("search"), numbers, st.just("abort"), key=keys, undo=undo)
steps = (
    st.lists(of_all_kinds, min_size=2, max_size=4) | st.lists(to_be_undone, min_size=3, max_size=4)
).map(sound)
