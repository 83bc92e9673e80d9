"""The journal key: made once, for its owner alone, and never quietly replaced."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from toolgate.errors import JournalKeyError
from toolgate.journal.key import key_from_env, key_from_file


def test_first_use_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "journal.key"
    first = key_from_file(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_from_file(path, create=False).key_id == first.key_id
    assert key_from_file(path, create=True).key_id == first.key_id
    assert [p.name for p in path.parent.iterdir()] == ["journal.key"]


def test_missing_key_of_an_existing_journal_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    with pytest.raises(JournalKeyError, match="restore the key file"):
        key_from_file(tmp_path / "journal.key", create=False)
    assert list(tmp_path.iterdir()) == []


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.key"
    key_from_file(path, create=True)
    path.chmod(0o640)
    with pytest.raises(JournalKeyError, match="chmod 600"):
        key_from_file(path, create=False)


@pytest.mark.parametrize("text", [b"", b"short", b"\xff\xfe", base64.b64encode(bytes(16))])
def test_file_without_a_key_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "journal.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(JournalKeyError, match="does not hold"):
        key_from_file(path, create=True)


def test_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", base64.b64encode(bytes(range(32))).decode())
    assert len(key_from_env("A_KEY").key_id) == 16
    monkeypatch.delenv("A_KEY")
    with pytest.raises(JournalKeyError, match="A_KEY is not set"):
        key_from_env("A_KEY")
