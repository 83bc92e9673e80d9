"""Noticing that a policy document has changed: by its content, once it has come to rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.clock import Clock
from toolgate.policy.watching import YOUNG, DocumentWatch


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("one")
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def replace(path: Path, text: str) -> None:
    """Write a file as editors do: another one, renamed over it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)


def deal(watch: DocumentWatch) -> None:
    watch.dealt_with(watch.content())


def test_what_has_not_changed_is_never_reported(document: Path) -> None:
    watch = DocumentWatch(document)
    assert [watch.changed() for _ in range(5)] == [False] * 5


def test_a_change_is_reported_when_two_looks_have_found_the_same_and_until_it_is_dealt_with(
    document: Path,
) -> None:
    watch = DocumentWatch(document)
    document.write_text("two")
    assert [watch.changed() for _ in range(3)] == [False, True, True]
    deal(watch)
    assert [watch.changed() for _ in range(3)] == [False] * 3


def test_a_file_that_is_still_being_written_is_not_reported(document: Path) -> None:
    watch = DocumentWatch(document)
    found = []
    for length in range(1, 5):
        document.write_text("half" * length)
        found.append(watch.changed())
    assert found == [False] * 4
    assert watch.changed()


def test_a_file_that_is_replaced_by_renaming_is_a_change(document: Path) -> None:
    watch = DocumentWatch(document)
    replace(document, "two")
    assert [watch.changed(), watch.changed()] == [False, True]


def test_the_same_content_in_another_file_is_no_change(document: Path) -> None:
    watch = DocumentWatch(document)
    replace(document, "one")
    assert [watch.changed() for _ in range(3)] == [False] * 3


def test_the_signature_beside_the_document_counts(document: Path) -> None:
    watch = DocumentWatch(document)
    document.with_name("policy.yaml.sig").write_text("signed")
    assert [watch.changed(), watch.changed()] == [False, True]


def test_a_file_that_is_missing_for_a_moment_is_no_change(document: Path) -> None:
    watch = DocumentWatch(document)
    document.rename(document.with_suffix(".old"))
    assert not watch.changed()
    document.with_suffix(".old").rename(document)
    assert [watch.changed() for _ in range(3)] == [False] * 3


def test_a_file_that_is_gone_is_a_change(document: Path) -> None:
    watch = DocumentWatch(document)
    document.unlink()
    assert [watch.changed(), watch.changed()] == [False, True]


def test_a_change_that_leaves_every_time_as_it_was_is_found_while_the_file_is_young(
    document: Path,
) -> None:
    watch = DocumentWatch(document)
    watch._look = lambda: watch._stamps  # type: ignore[method-assign]
    document.write_text("two")
    assert [watch.changed(), watch.changed()] == [False, True]


def test_an_old_file_is_not_read_again(document: Path, clock: Clock) -> None:
    clock.forward(2 * YOUNG)
    watch = DocumentWatch(document)
    assert not watch.changed()
    watch.content = None  # type: ignore[method-assign, assignment]
    assert not watch.changed()
