"""Approvers with real keys, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolgate.signatures.keys import public_key_text


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    id: str
    key: Ed25519PrivateKey

    @property
    def pinned(self) -> dict[str, str]:
        """The person's entry in a config."""
        return {"id": self.id, "public_key": public_key_text(self.key.public_key())}

    def key_file(self, folder: Path) -> Path:
        """Write the private key to a file and return its path."""
        path = folder / f"{self.id}.key"
        path.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        path.chmod(0o600)
        return path


ALICE = Person("alice", Ed25519PrivateKey.generate())
BOB = Person("bob", Ed25519PrivateKey.generate())
MALLORY = Person("mallory", Ed25519PrivateKey.generate())


def config(**changes: Any) -> dict[str, Any]:
    """Return a config: search is allowed, shell denied, pay held for alice, wire_money for both."""
    value: dict[str, Any] = {
        "project": "acme",
        "tools": {"vault": {"level": 4}, "nuke": {"level": 5}, "slow": {"timeout": "50ms"}},
        "policy": {
            "rules": [
                {"id": "reads", "tools": ["search", "slow", "typed"], "effect": "allow"},
                {
                    "id": "no-rm",
                    "tools": ["shell"],
                    "when": 'args.command.contains("rm")',
                    "effect": "deny",
                    "reason": "nothing is removed by an agent",
                },
                {"id": "shell", "tools": ["shell"], "effect": "allow"},
                {
                    "id": "money",
                    "tools": ["pay"],
                    "effect": "hold",
                    "reason": "a person looks at payments",
                    "approval": {"approvers": ["alice"], "expires": "15m"},
                },
                {
                    "id": "big-money",
                    "tools": ["wire_money"],
                    "effect": "hold",
                    "approval": {"approvers": ["alice", "bob"], "quorum": 2, "expires": "never"},
                },
            ]
        },
        "approvals": {"approvers": [ALICE.pinned, BOB.pinned]},
    }
    value.update(changes)
    return value
