"""The guide to plans shows the example's own actions, and every field that an action has."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
import yaml

from support.doc_pages import ROOT, Block, blocks, code, table
from toolgate.ir import Action

GUIDE = ROOT / "docs" / "guides" / "plans.md"
QUOTED = [b for b in blocks(GUIDE) if b.language == "yaml" and "file" not in b.options]


@pytest.mark.parametrize("block", QUOTED, ids=lambda block: yaml.safe_load(block.text)["id"])
def test_an_action_that_the_guide_quotes_is_the_examples(block: Block) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "deploy.py"))
    plan = example["release"](example["BROKEN"])
    quoted = yaml.safe_load(block.text)
    assert quoted == next(action for action in plan["actions"] if action["id"] == quoted["id"])


def test_the_guide_has_every_field_of_an_action_with_its_default() -> None:
    page = {code(row["field"]): row["default"] for row in table(GUIDE, "What an action says")}
    assert list(page) == list(Action.model_fields)
    plain = Action(id="a", type="tool_call").model_dump(mode="json")
    for field, default in page.items():
        if field == "type":
            assert default == "required"
        elif field != "id":
            assert _read(default) == plain[field], field


def _read(default: str) -> Any:
    return yaml.safe_load(code(default))
