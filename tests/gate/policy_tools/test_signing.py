"""Signed policy documents: a signature is verified, not only present."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest

from support.people import ALICE, BOB, MALLORY
from toolgate.config import load_config
from toolgate.errors import ApprovalError, ConfigError, PolicyError
from toolgate.policy import compile_policy, signing
from toolgate.signatures import dsse

DOCUMENT = """\
version: 1
id: signed
rules: [{id: reads, tools: ["read_*"], effect: allow}]
"""


@pytest.fixture
def signed(author):
    """A deployment that asks for alice's or bob's signature, and has alice's."""
    author.write("policy.yaml", DOCUMENT)
    author.write(
        "gate.yaml",
        {
            "project": "acme",
            "policy": {
                "file": "policy.yaml",
                "require_signature": True,
                "signers": [ALICE.pinned, BOB.pinned],
            },
        },
    )
    for person in (ALICE, BOB, MALLORY):
        person.key_file(author.folder)
    told = author("policy", "sign", "policy.yaml", "--key", "alice.key", "--as", "alice")
    assert told.code == 0, told.err
    assert "alice signed policy.yaml (signed, 1 rules): wrote policy.yaml.sig" in told.out
    return author


def policy_of(author):
    return compile_policy(load_config(author.folder / "gate.yaml"))


def refusal(author):
    with pytest.raises(PolicyError) as error:
        policy_of(author)
    return str(error.value)


def envelope_of(author):
    return json.loads((author.folder / "policy.yaml.sig").read_text())


def test_a_document_with_a_pinned_signature_is_loaded(signed):
    assert policy_of(signed).id == "signed"
    told = signed("policy", "verify", "--config", "gate.yaml")
    assert (told.code, told.out) == (0, "policy.yaml: signed by alice\n")


def test_26_a_document_without_its_signature_starts_no_gate(signed):
    (signed.folder / "policy.yaml.sig").unlink()
    assert "must be signed (policy.require_signature), and there is no policy.yaml.sig" in refusal(
        signed
    )
    assert signed("check", "gate.yaml").code == 2
    assert signed("policy", "verify", "--config", "gate.yaml").code == 1


def test_26_the_sidecar_does_not_start_and_says_why(signed):
    (signed.folder / "policy.yaml.sig").unlink()
    command = [sys.executable, "-m", "toolgate", "serve", "--config", "gate.yaml"]
    ended = subprocess.run(
        command, cwd=signed.folder, capture_output=True, text=True, timeout=30, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "must be signed (policy.require_signature)" in ended.stdout + ended.stderr
    assert not (signed.folder / ".toolgate").exists()


def test_26_a_signature_is_of_every_byte_of_its_document(signed):
    signed.write("policy.yaml", DOCUMENT + "\n")
    assert "it is of another document, or the document was changed since" in refusal(signed)


def test_26_a_signature_by_somebody_who_is_not_pinned_does_not_count(signed):
    signed("policy", "sign", "policy.yaml", "--key", "mallory.key", "--as", "alice")
    told = signed("policy", "verify", "--config", "gate.yaml")
    assert told.code == 1
    assert "nobody who may sign (policy.signers: alice, bob) has signed it" in told.err
    assert "nobody who may sign" in refusal(signed)


def test_26_a_signature_that_was_touched_does_not_count(signed):
    envelope = envelope_of(signed)
    raw = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    raw[0] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    signed.write("policy.yaml.sig", json.dumps(envelope))
    assert "nobody who may sign" in refusal(signed)


def test_26_what_was_signed_for_another_use_signs_no_policy(signed):
    other = dsse.sign(DOCUMENT.encode(), "application/vnd.toolgate.approval+json", "a", ALICE.key)
    (signed.folder / "policy.yaml.sig").write_bytes(other)
    assert "not a policy document" in refusal(signed)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "x" * (dsse.MAX_ENVELOPE_BYTES + 2)])
def test_26_what_is_no_envelope_is_no_signature(signed, text):
    signed.write("policy.yaml.sig", text)
    assert "policy.yaml.sig does not count" in refusal(signed)


def test_what_is_loaded_are_the_bytes_that_were_verified(signed, monkeypatch):
    evil = DOCUMENT.replace("read_*", "*").encode()
    verify = signing.verify

    def swapped(path, document, signers):
        found = verify(path, document, signers)
        path.write_bytes(evil)
        return found

    monkeypatch.setattr(signing, "verify", swapped)
    assert policy_of(signed).rules[0].tools == ("read_*",)
    assert (signed.folder / "policy.yaml").read_bytes() == evil


def test_two_signers_may_sign_one_document_and_a_changed_one_starts_anew(signed):
    signed("policy", "sign", "policy.yaml", "--key", "bob.key", "--as", "bob")
    told = signed("policy", "verify", "--config", "gate.yaml", "--json")
    assert told.json == {
        "ok": True,
        "file": "policy.yaml",
        "signers": ["alice", "bob"],
        "problem": None,
    }
    again = signed("policy", "sign", "policy.yaml", "--key", "bob.key", "--as", "bob")
    assert again.code == 0
    assert len(envelope_of(signed)["signatures"]) == 2
    signed.write("policy.yaml", DOCUMENT + "# changed\n")
    signed("policy", "sign", "policy.yaml", "--key", "bob.key", "--as", "bob")
    assert [item["keyid"] for item in envelope_of(signed)["signatures"]] == ["bob"]


def test_with_a_config_a_signature_that_would_not_count_is_refused(signed):
    (signed.folder / "policy.yaml.sig").unlink()
    for who, why in (("alice", "not the key"), ("mallory", "no signer named")):
        told = signed(
            "policy", "sign", "policy.yaml", "--key", "mallory.key", "--as", who,
            "--config", "gate.yaml",
        )  # fmt: skip
        assert told.code == 2
        assert why in " ".join(told.err.split())
    assert not (signed.folder / "policy.yaml.sig").exists()


def test_a_broken_document_is_not_signed(author):
    author.write("policy.yaml", "version: 1\nid: x\nrules: [{id: a, effect: deny}]\n")
    ALICE.key_file(author.folder)
    told = author("policy", "sign", "policy.yaml", "--key", "alice.key", "--as", "alice")
    assert told.code == 2
    assert not (author.folder / "policy.yaml.sig").exists()


def test_a_document_too_long_for_an_envelope_is_not_signed():
    with pytest.raises(ApprovalError, match="cannot be signed"):
        signing.sign(b" " * (signing.MAX_DOCUMENT_BYTES + 1), "alice", ALICE.key, None)
    longest = signing.sign(b" " * signing.MAX_DOCUMENT_BYTES, "alice", ALICE.key, None)
    pinned = {"alice": ALICE.key.public_key()}
    assert signing.signed_by(b" " * signing.MAX_DOCUMENT_BYTES, longest, pinned) == ["alice"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"rules": [], "require_signature": True, "signers": [ALICE.pinned]}, "no file that could"),
        ({"file": "policy.yaml", "require_signature": True}, "no signers who could sign"),
        ({"signers": [ALICE.pinned, ALICE.pinned]}, "names alice more than once"),
    ],
)
def test_a_requirement_that_nobody_could_meet_is_refused(author, policy, said):
    author.write("gate.yaml", {"project": "p", "policy": policy})
    with pytest.raises(ConfigError, match=said):
        load_config(author.folder / "gate.yaml")


def test_a_signers_key_that_cannot_be_used_starts_no_gate(signed):
    text = (signed.folder / "gate.yaml").read_text()
    signed.write("gate.yaml", text.replace(ALICE.pinned["public_key"], "short"))
    assert "policy.signers[0].public_key: a public key is base64 of 32 raw bytes" in refusal(signed)
    assert signed("check", "gate.yaml").code == 2
