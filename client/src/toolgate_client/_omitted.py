"""What the gate is told of a body's result that does not fit into a message to it.

The caller has the live result all the same, and its effect has happened: so the call succeeds. The
journal gets the digest of what was not sent, which proves later what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from toolgate_client._encode import to_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OMITTED = "the result is too large to be recorded"


def shorter(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield shorter forms of the result of ``run_tool``, the one that says most first.

    Of documents, first the texts are left out, then the whole output, at last all but the labels
    they give. Raises ``TypeError`` or ``ValueError`` for an output that is not JSON.
    """
    without_texts = dict(result)
    if "documents" in result:
        without_texts["documents"] = [without_text(each) for each in result["documents"]]
        yield without_texts
    if "output" in result:
        without_texts |= {"output": _stand_in(result["output"]), "omitted": True}
        yield without_texts
    if "documents" in result:
        yield {**without_texts, "documents": [_all_in_one(result["documents"])]}


def without_text(document: Mapping[str, str]) -> dict[str, Any]:
    """Return a document as the journal will have it: by its digest and length."""
    said = {key: value for key, value in document.items() if key != "text"}
    return {**_digested(document["text"].encode()), **said}


def _stand_in(output: Any) -> dict[str, Any]:
    return {"omitted": _OMITTED, **_digested(to_wire(output, "the result"))}


def _all_in_one(documents: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    text = "".join(each["text"] for each in documents)
    trusted = all(each["trust"] == "trusted" for each in documents)
    return without_text({"text": text, "trust": "trusted" if trusted else "untrusted"})


def _digested(data: bytes) -> dict[str, Any]:
    return {"digest": "sha256:" + sha256(data).hexdigest(), "length": len(data)}
