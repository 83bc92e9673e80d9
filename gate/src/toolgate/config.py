"""The gate's configuration: what one deployment's file may say, and how it is loaded.

The file is the operator's. A key that is not known is refused rather than ignored, so that nobody
relies on a limit that is not there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from toolgate import agents, jsonvalue
from toolgate.errors import ConfigError, JSONError
from toolgate.fields import (
    Duration,
    Expiry,
    Globs,
    Name,
    Names,
    Pointers,
    PositiveDuration,
    Section,
    Text,
    as_tuple,
    distinct,
)
from toolgate.ir import CostBudget, RateLimit
from toolgate.sourcefile import (
    Location,
    Problems,
    SourceFile,
    UnreadableSource,
    message,
    read,
    unusable_strings,
)

Mode: TypeAlias = Literal["enforce", "observe"]
"""Whether what policy says is done, or only told."""

_REFERENCE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class SqliteJournal:
    """The journal is an SQLite database at ``path`` (absolute)."""

    path: Path


@dataclass(frozen=True, slots=True)
class MemoryJournal:
    """The journal lives in memory and is gone with the process: for tests only."""


JournalLocation: TypeAlias = SqliteJournal | MemoryJournal


@dataclass(frozen=True, slots=True)
class FileKey:
    """The journal key is in the file at ``path`` (absolute); created on first use."""

    path: Path


@dataclass(frozen=True, slots=True)
class EnvKey:
    """The journal key is in the environment variable ``name``."""

    name: str


JournalKeySource: TypeAlias = FileKey | EnvKey


@dataclass(frozen=True, slots=True)
class AnchorFile:
    """The journal's anchor is the file at ``path`` (absolute); created on first use."""

    path: Path


@dataclass(frozen=True, slots=True)
class NoAnchor:
    """The journal has no anchor."""


def _under(info: ValidationInfo, path: str) -> Path:
    if not path:
        raise ValueError("names no file")
    return Path(os.path.normpath((info.context or {}).get("folder", Path.cwd()) / path))


def _parse_journal(value: object, info: ValidationInfo) -> JournalLocation:
    if value == "memory:":
        return MemoryJournal()
    if isinstance(value, str) and value.startswith(("postgresql:", "postgres:")):
        raise ValueError(
            "PostgreSQL is not supported by this version of toolgate; use sqlite:///path"
        )
    if not isinstance(value, str) or not value.startswith("sqlite:///"):
        raise ValueError("must be sqlite:///path or memory:")
    path = value.removeprefix("sqlite:///")
    if "?" in path:
        raise ValueError("sqlite:///path takes no parameters after a ?")
    if path == ":memory:":
        raise ValueError("an in-memory journal is written memory:")
    return SqliteJournal(_under(info, path))


def _parse_journal_key(value: object, info: ValidationInfo) -> JournalKeySource:
    if isinstance(value, str) and value.startswith("file:"):
        return FileKey(_under(info, value.removeprefix("file:")))
    if isinstance(value, str) and value.startswith("env:"):
        name = value.removeprefix("env:")
        if not name or "=" in name:
            raise ValueError("env: must name an environment variable")
        return EnvKey(name)
    raise ValueError("must be file:PATH or env:NAME")


def _parse_journal_anchor(value: object, info: ValidationInfo) -> AnchorFile | NoAnchor | None:
    if value is None:
        return None
    if value == "none":
        return NoAnchor()
    if isinstance(value, str) and value.startswith("file:"):
        return AnchorFile(_under(info, value.removeprefix("file:")))
    raise ValueError("must be file:PATH or none")


class AgentSection(Section):
    """Who the client's agent is; rules see it as ``agent.id`` and ``agent.framework``."""

    id: Name = "agent"
    framework: Name | None = None


class RateLimitEntry(RateLimit):
    """At most ``max_calls`` in ``interval_secs`` seconds, over all sessions of the project."""

    model_config = ConfigDict(extra="forbid")


class ToolEntry(Section):
    """What the operator says of one tool. The defaults are the conservative contract.

    ``emits`` are labels that a session gets once the tool has run in it. ``timeout`` and
    ``cache_ttl`` are in seconds. ``retries`` is how often a failed call is attempted again, also
    when no plan asks for it; where one does, the smaller number counts. ``redact`` are JSON
    pointers to arguments that are secret.
    """

    level: Annotated[int, Field(ge=0, le=5)] = 3
    reversibility: Literal["irreversible", "compensable", "reversible"] = "irreversible"
    blast_radius: Literal["self", "session", "project", "external"] = "external"
    labels: Names = ()
    emits: Names = ()
    parameters: dict[str, Any] | None = None
    idempotent: bool = False
    timeout: PositiveDuration = 120.0
    retries: Annotated[int, Field(ge=0, le=1000)] | None = None
    rate_limit: RateLimitEntry | None = None
    cache_ttl: Duration | None = None
    redact: Pointers = ()


class Signer(Section):
    """Somebody who may sign policy documents, and the public key that is checked with."""

    id: Name
    public_key: Text


class PolicySection(Section):
    """Where the rules are, who must have signed them, and what decides when no rule matches.

    ``allow_up_to`` ends at 3: levels 4 and 5 are floors that no setting lifts.
    """

    file: Path | None = None
    rules: list[Any] | None = None
    require_signature: bool = False
    signers: Annotated[tuple[Signer, ...], BeforeValidator(as_tuple)] = ()
    allow_up_to: Annotated[int, Field(ge=0, le=3)] = 0
    vars: dict[str, Any] = Field(default_factory=dict)

    @field_validator("file", mode="before")
    @classmethod
    def _resolve(cls, value: object, info: ValidationInfo) -> object:
        return _under(info, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> PolicySection:
        if self.file is not None and self.rules is not None:
            raise ValueError("has both file and rules: name one of them")
        return self

    @field_validator("signers")
    @classmethod
    def _one_signer_each(cls, signers: tuple[Signer, ...]) -> tuple[Signer, ...]:
        distinct(tuple(signer.id for signer in signers))
        return signers

    @model_validator(mode="after")
    def _can_be_signed(self) -> PolicySection:
        if self.require_signature and self.file is None:
            raise ValueError("has require_signature, and no file that could be signed")
        if self.require_signature and not self.signers:
            raise ValueError("has require_signature, and no signers who could sign")
        return self


class Approver(Section):
    """A person who may approve, and the public key their signature is checked with."""

    id: Name
    public_key: Text


class ApprovalsSection(Section):
    """Who may approve, and how holds behave when a rule does not say.

    With ``allow_unsigned`` a name is believed without a signature: for development.
    """

    approvers: Annotated[tuple[Approver, ...], BeforeValidator(as_tuple)] = ()
    expires: Expiry = 900.0
    repeat: Literal["join", "ask"] = "join"
    remember_denial: bool = True
    max_pending: Annotated[int, Field(ge=1)] = 1000
    allow_unsigned: bool = False

    @field_validator("approvers")
    @classmethod
    def _one_person_each(cls, approvers: tuple[Approver, ...]) -> tuple[Approver, ...]:
        distinct(tuple(approver.id for approver in approvers))
        if any(approver.id == "*" for approver in approvers):
            raise ValueError("* is nobody's id: it stands for anybody where nothing is signed")
        keys: dict[str, str] = {}
        for approver in approvers:
            other = keys.setdefault("".join(approver.public_key.split()), approver.id)
            if other != approver.id:
                raise ValueError(
                    f"{other} and {approver.id} have the same public key: "
                    "one person could fill a quorum of two"
                )
        return approvers


class Selection(Section):
    """Which names are allowed: those that a glob of ``allow`` matches and none of ``deny``."""

    allow: Globs = ("*",)
    deny: Globs = ()


class CapabilitiesSection(Section):
    """What a session may touch at all, whatever policy says. ``max_actions`` is per proposal."""

    tools: Selection = Selection()
    state_keys: Selection = Selection()
    max_actions: Annotated[int, Field(ge=0)] | None = None


class Budget(CostBudget):
    """What may be spent at most; ``None`` is no limit. Durations in milliseconds."""

    model_config = ConfigDict(extra="forbid")


class BudgetSection(Section):
    """What one proposal, and what one session, may spend at most."""

    proposal: Budget = Budget()
    session: Budget = Budget()


class AgentEntry(Section):
    """An agent besides the built-in ones (:mod:`toolgate.agents`)."""

    id: Name
    name: Name
    description: str = ""
    system_prompt: Text
    capabilities: Annotated[Names, Field(min_length=1)]

    @property
    def profile(self) -> agents.AgentProfile:
        """The agent as registries hold it."""
        return agents.AgentProfile(**self.model_dump())


class LimitsSection(Section):
    """What the gate takes on at once: bytes per message, calls in flight, and time to drain.

    ``max_waiting`` is how many calls may wait besides those in flight. ``max_concurrency`` is how
    many actions of one proposal may run at once.
    """

    max_message_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 4 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    max_waiting: Annotated[int, Field(ge=1)] = 10_000
    max_concurrency: Annotated[int, Field(ge=1)] = 16
    drain: Duration = 10.0


class GateConfig(Section):
    """One deployment's configuration, validated, with every path absolute."""

    project: Name
    agent: AgentSection = AgentSection()
    session: Name = "auto"
    journal: Annotated[
        SqliteJournal | MemoryJournal,
        BeforeValidator(_parse_journal),
        Field(validate_default=True),
        WithJsonSchema({"type": "string", "pattern": r"^(sqlite:///.+|memory:)$|\$\{"}),
    ] = "sqlite:///.toolgate/journal.db"  # type: ignore[assignment]
    durability: Literal["process", "power"] = "process"
    journal_key: Annotated[
        FileKey | EnvKey,
        BeforeValidator(_parse_journal_key),
        Field(validate_default=True),
        WithJsonSchema({"type": "string", "pattern": r"^(file|env):.+|\$\{"}),
    ] = "file:.toolgate/journal.key"  # type: ignore[assignment]
    journal_anchor: Annotated[
        AnchorFile | NoAnchor | None,
        BeforeValidator(_parse_journal_anchor),
        WithJsonSchema({"type": ["string", "null"], "pattern": r"^(file:.+|none)$|\$\{"}),
    ] = None
    mode: Mode = "enforce"
    state: dict[str, Any] = Field(default_factory=dict)
    tools: dict[Name, ToolEntry] = Field(default_factory=dict)
    policy: PolicySection = PolicySection()
    approvals: ApprovalsSection = ApprovalsSection()
    capabilities: CapabilitiesSection = CapabilitiesSection()
    budget: BudgetSection = BudgetSection()
    limits: LimitsSection = LimitsSection()
    agents: Annotated[tuple[AgentEntry, ...], BeforeValidator(as_tuple)] = ()

    _source: SourceFile = PrivateAttr(default_factory=lambda: SourceFile("the configuration", {}))

    @field_validator("state")
    @classmethod
    def _is_json(cls, state: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonvalue.canonical(state)
        except JSONError as error:
            raise ValueError(str(error)) from None
        return state

    @field_validator("agents")
    @classmethod
    def _one_agent_each(cls, entries: tuple[AgentEntry, ...]) -> tuple[AgentEntry, ...]:
        distinct(tuple(entry.id for entry in entries))
        taken = sorted({entry.id for entry in entries} & {agent.id for agent in agents.BUILT_IN})
        if taken:
            raise ValueError(f"{', '.join(taken)} is the id of a built-in agent")
        return entries

    def model_post_init(self, context: Any, /) -> None:
        """Keep the document that :func:`load_config` and :func:`parse_config` validate."""
        if context:
            self._source = context["source"]

    @property
    def source(self) -> SourceFile:
        """The document this was read from: names the file and lines that messages speak of."""
        return self._source


def load_config(path: str | Path, environment: Mapping[str, str] = os.environ) -> GateConfig:
    """Load a deployment's file; relative paths in it are relative to the folder it is in.

    ``${NAME}`` in a string is replaced by that variable of ``environment`` (``$${NAME}`` is the
    literal text). Raises :class:`ConfigError` with everything that is wrong with the file. The
    policy document it names is not read here.
    """
    path = Path(path).absolute()
    try:
        source = read(path)
    except UnreadableSource as error:
        raise ConfigError(str(path), error.problems) from None
    return _validate(source, path.parent, environment)


def parse_config(
    value: Mapping[str, Any], folder: str | Path, name: str = "configuration"
) -> GateConfig:
    """Validate a configuration that is already a mapping, as :func:`load_config` does a file."""
    return _validate(SourceFile(name, dict(value)), Path(folder).absolute(), os.environ)


def _validate(source: SourceFile, folder: Path, environment: Mapping[str, str]) -> GateConfig:
    problems = Problems(source.lines)
    value = _substitute(source.value, (), problems, environment)
    for location, problem in unusable_strings(value):
        problems.add(location, problem)
    config = None
    try:
        config = GateConfig.model_validate(value, context={"folder": folder, "source": source})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            location = tuple(part for part in detail["loc"] if part != "[key]")
            problems.add(location, message(detail))
    if config is None or problems:
        raise ConfigError(source.name, list(problems))
    return config


def _substitute(
    value: jsonvalue.JSONValue,
    location: Location,
    problems: Problems,
    environment: Mapping[str, str],
) -> jsonvalue.JSONValue:
    """Return ``value`` with the environment's values in its strings."""
    if isinstance(value, dict):
        return {k: _substitute(v, (*location, k), problems, environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, (*location, i), problems, environment) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return f"${{{match[2]}}}"
        found = environment.get(match[2])
        if found is None:
            problems.add(location, f"the environment variable {match[2]} is not set")
            return match[0]
        return found

    return _REFERENCE.sub(replacement, value)
