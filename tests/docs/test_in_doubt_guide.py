"""The guide to actions in doubt shows what is really signed."""

from __future__ import annotations

import json

from support.doc_pages import ROOT, blocks
from support.people import ALICE
from toolgate.approvals import settlement
from toolgate.approvals.settlement import Doubt
from toolgate.signatures import dsse

PAGE = ROOT / "docs" / "guides" / "in-doubt.md"


def test_the_guide_shows_the_fields_that_a_settlement_signs() -> None:
    [shown] = [block for block in blocks(PAGE) if block.language == "json"]
    doubt = Doubt("u", "charge", "sha256:", 1, b"", 0, ("alice",))
    envelope = dsse.parse(settlement.sign(doubt, "succeeded", "alice", ALICE.key, 0, "why"))
    assert json.loads(shown.text).keys() == json.loads(envelope.payload).keys()
    assert envelope.payload_type in PAGE.read_text()
