"""The state as far as it can be foreseen, when every tool succeeds and nobody else writes.

1. What a tool puts out is not known. A reference to it stands for itself: it stays in the values
   that the plan writes, and a key with such a value is *open*.
2. An open key is there, and that is all that is known of it: every other comparison with it is
   taken to hold.
3. A ``state_write`` whose key is such a reference writes nobody knows where, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from toolgate.ir import Action, ActionType, Precondition
from toolgate.jsonvalue import JSONValue
from toolgate.plan import effects, preconditions
from toolgate.plan.references import Room, is_plain, is_reference, referenced, resolve

_COMPARING = preconditions.OPERATORS - {"exists", "not_exists"}


def with_parameters(action: Action, parameters: dict[str, JSONValue]) -> Action:
    """Return the action with other parameters; itself when they are its own."""
    if parameters is action.parameters:
        return action
    return action.model_copy(update={"parameters": parameters})


class Foresight:
    """One walk through a plan, its actions taken in an order that its graph allows."""

    def __init__(self, state: Mapping[str, JSONValue]) -> None:
        """``state`` is what there is before the first action; it is not changed."""
        self.state = dict(state)
        self._open: set[str] = set()
        self._outputs: dict[str, JSONValue] = {}
        self._room = Room()

    def resolved(self, parameters: dict[str, JSONValue]) -> tuple[dict[str, JSONValue], bool]:
        """Return parameters with all known outputs in them, and whether that was all of them.

        Parameters without references are returned themselves. Raises
        :class:`~toolgate.plan.references.UnresolvedReference` when a known output has nothing where
        a reference leads.
        """
        if is_plain(parameters):
            return parameters, True
        if not referenced(parameters) - self._outputs.keys():
            return resolve(parameters, self._outputs, self._room), True
        return self._resolved_partly(parameters), False

    def missing_keys(self, action: Action) -> list[str]:
        """Return the keys that the action depends on and that are not there."""
        if not action.state_dependencies:
            return []
        return [key for key in dict.fromkeys(action.state_dependencies) if key not in self.state]

    def failures(self, conditions: Iterable[Precondition]) -> list[tuple[Precondition, str]]:
        """Return the preconditions that do not hold, each with a sentence about it."""
        return [
            (condition, told)
            for condition in conditions
            if condition.key not in self._open or condition.operator not in _COMPARING
            for told in preconditions.failures((condition,), self.state)
        ]

    def carry_out(self, action: Action, parameters: dict[str, JSONValue]) -> str | None:
        """Take note of what a well-formed action puts out and commits, its parameters resolved.

        Returns why it fails, which only an assertion can; then nothing is noted.
        """
        self._outputs.pop(action.id, None)
        if action.type is not ActionType.TOOL_CALL:
            return self._carry_out_state_action(action, parameters)
        self.commit(action.expected_effects)
        return None

    def commit(self, changes: Mapping[str, JSONValue]) -> None:
        """Write known values."""
        self.state.update(changes)
        self._open.difference_update(changes)

    def restore(self, state: Mapping[str, JSONValue]) -> None:
        """Set the state back; what was put out stays known."""
        self.state = dict(state)
        self._open.clear()

    def knows_key(self, action: Action) -> bool:
        """Tell whether it is known which key a state action is about."""
        key = action.parameters.get("key")
        match = is_reference(key) if isinstance(key, str) else None
        return match is None or match[1] in self._outputs

    def _carry_out_state_action(
        self, action: Action, parameters: dict[str, JSONValue]
    ) -> str | None:
        if not self.knows_key(action):
            self.commit(action.expected_effects)
            return None
        key = parameters["key"]
        unknown = self._unknown(action, key)
        action = with_parameters(action, parameters)
        if action.type is ActionType.STATE_WRITE or not unknown:
            outcome = effects.run(action, self.state)
            if outcome.error is not None:
                return outcome.error
            self._outputs[action.id] = outcome.output
        self.commit(effects.writes(action))
        if action.type is ActionType.STATE_WRITE and unknown:
            self._open.add(key)
        return None

    def _unknown(self, action: Action, key: str) -> bool:
        """Tell whether what the action writes, reads or compares is not known."""
        match action.type:
            case ActionType.STATE_WRITE:
                compared = action.parameters.get("value")
            case ActionType.ASSERTION:
                compared = action.parameters.get("expected")
            case _:
                compared = None
        unknown = bool(referenced(compared) - self._outputs.keys())
        return unknown or (action.type is not ActionType.STATE_WRITE and key in self._open)

    def _resolved_partly(self, value: JSONValue) -> JSONValue:
        if isinstance(value, dict):
            return {key: self._resolved_partly(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved_partly(item) for item in value]
        if isinstance(value, str):
            match = is_reference(value)
            if match is not None and match[1] not in self._outputs:
                return value
        return resolve(value, self._outputs, self._room)
