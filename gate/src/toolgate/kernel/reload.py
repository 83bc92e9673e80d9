"""Puts a changed policy document in force while calls go on.

The rules, in order:

1. Only the document is read again, and its signature. What the config says stays as it was when the
   gate started; rules that are written into the config are part of it.
2. It is read, verified and compiled as at the start, outside of any transaction. What cannot be
   used is refused as a whole: the policy before stays in force. That is journaled
   (``policy.refused``) and told once for the same content, however often it is looked at.
3. The same policy in other words (the same digest) changes nothing.
4. Another one takes its place in the transaction that journals it (``policy.loaded``): whatever
   stands in the log before was decided by the old one, what stands behind it by the new one. If
   that cannot be journaled, the old one stays in force, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from toolgate.config import GateConfig
from toolgate.errors import PolicyError, ToolgateError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal, Transaction
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.judge import Judge
from toolgate.policy.loading import compile_policy
from toolgate.policy.verdict import Policy
from toolgate.policy.watching import DocumentWatch

INTERVAL: Final = 1.0
"""Seconds between two looks at the document."""

Level: TypeAlias = Literal["info", "warning", "error"]
"""How grave it is what people are told."""

_PROBLEMS = 100
"""Problems of one document that are journaled; a file of another kind may have thousands."""
_REMEMBERED = 1000
"""Refused contents that are known again; whoever writes the file must not fill the memory."""


class Reloader:
    """Keeps one gate's policy what its document says. Everything happens on the event loop."""

    def __init__(
        self,
        config: GateConfig,
        watch: DocumentWatch | None,
        judge: Judge,
        journal: Journal,
        session: str,
        tell: Callable[[Level, str], None],
    ) -> None:
        """``watch`` was made before the judge's policy was compiled; ``None``: no document.

        ``tell`` is how people are told.
        """
        self._config = config
        self._watch = watch
        self._judge = judge
        self._journal = journal
        self._session = session
        self._tell = tell
        self._refused: set[bytes] = set()
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._trouble: str | None = None

    def watch(self) -> None:
        """Look at the document from now on, until :meth:`stop`."""
        if self._watch is not None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def look(self) -> None:
        """Look at the document once, and begin to put it in force if it has changed."""
        self.watch()
        busy = self._work is not None and not self._work.done()
        if not busy and self._watch is not None and self._watch.changed():
            self._work = asyncio.ensure_future(self._follow())

    async def ask(self) -> None:
        """Reload because somebody asked for it, who is told what came of it: for signals."""
        before = self._judge.policy
        try:
            policy = await self.reload(again=True)
        except PolicyError:
            return  # That is told where it is refused.
        except ToolgateError as error:
            self._tell("error", f"the policy could not be reloaded, and stays as it is: {error}")
            return
        if policy is before and self._watch is not None:
            self._tell("info", f"the policy is unchanged: {policy.id} {policy.digest}")

    async def reload(self, *, again: bool = False) -> Policy:
        """Put the document in force as it is now, and return the policy in force.

        Raises :class:`PolicyError` when it cannot be used, and
        :class:`~toolgate.errors.JournalError` when that cannot be journaled; then the policy before
        stays in force. ``again`` tells people of a refusal also when they know of it.
        """
        if self._watch is None:
            self._tell(
                "warning",
                "there is no policy document to reload: rules that stand in the config are read "
                "when the gate starts",
            )
            return self._judge.policy
        async with self._lock:
            # Before the document is read: what comes meanwhile is seen as a change.
            content = self._watch.content()
            try:
                policy = compile_policy(self._config)
            except PolicyError as error:
                await self._refuse(error, content, again=again)
                self._watch.dealt_with(content)
                raise
            if policy.digest != self._judge.policy.digest:
                await self._put_in_force(policy)
            self._watch.dealt_with(content)
            return self._judge.policy

    async def _follow(self) -> None:
        try:
            await self.reload()
        except PolicyError:
            pass  # That is told where it is refused.
        except ToolgateError as error:
            # It is tried again at the next look: it is told once.
            if self._trouble != str(error):
                self._tell(
                    "error", f"the policy has changed and could not be reloaded yet: {error}"
                )
            self._trouble = str(error)
            return
        self._trouble = None

    async def _put_in_force(self, policy: Policy) -> None:
        judge, before = self._judge, self._judge.policy

        def load(tx: Transaction) -> None:
            data: dict[str, JSONValue] = {**loaded(policy), "replaces": before.digest}
            tx.append(EventKind.POLICY_LOADED, data, session=self._session)
            judge.policy = policy

        try:
            await self._journal.transact(load)
        except Exception:
            # All of that transaction is undone, and nobody has been judged since.
            judge.policy = before
            raise
        self._tell(
            "info",
            f"policy reloaded: {policy.id} {policy.digest} is in force, with {len(policy.rules)} "
            f"rules; it replaces {before.digest}",
        )
        for warning in policy.warnings:
            if warning not in before.warnings:
                self._tell("warning", f"warning: {warning}")

    async def _refuse(self, error: PolicyError, content: bytes, *, again: bool) -> None:
        known = content in self._refused
        in_force = self._judge.policy.digest
        if not known:
            problems = list(error.problems[:_PROBLEMS])
            if len(error.problems) > _PROBLEMS:
                problems.append(f"and {len(error.problems) - _PROBLEMS} more")
            data: dict[str, JSONValue] = {
                "file": error.source,
                "problems": list(problems),
                "in_force": in_force,
            }
            await self._journal.transact(
                lambda tx: tx.append(EventKind.POLICY_REFUSED, data, session=self._session)
            )
            if len(self._refused) < _REMEMBERED:
                self._refused.add(content)
        if again or not known:
            self._tell("error", f"POLICY NOT RELOADED, {in_force} stays in force: {error}")


def loaded(policy: Policy) -> dict[str, JSONValue]:
    """Return what is journaled of a policy that comes into force."""
    data: dict[str, JSONValue] = {
        "policy": policy.id,
        "digest": policy.digest,
        "mode": "observe" if policy.observing else "enforce",
    }
    observed = [rule.id for rule in policy.rules if rule.observed]
    if observed:
        data["observed"] = list(observed)
    return data
