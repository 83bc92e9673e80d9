"""What a body has read: content that came into the session, which the gate is told of.

The annotations are evaluated here, as in :mod:`toolgate_client._models`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Trust = Literal["untrusted", "trusted"]


@dataclass(frozen=True)
class Document:
    """Content from outside that came into the session: a web page, a mail, a file.

    ``source`` says where it is from. The journal keeps the text's digest, not the text. An
    ``untrusted`` one gives the session the label ``untrusted``, which rules can ask for.

    Raises ``TypeError`` or ``ValueError`` when it is none.
    """

    text: str
    source: str | None = None
    trust: Trust = "untrusted"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"the text of a document is a string: {self.text!r:.100}")
        if self.source is not None and not isinstance(self.source, str):
            raise TypeError(f"the source of a document is a string: {self.source!r:.100}")
        if self.trust not in ("untrusted", "trusted"):
            raise ValueError(f"a document is untrusted or trusted: {self.trust!r:.100}")

    def to_wire(self) -> dict[str, str]:
        """Return it as the gate is told of it."""
        said: dict[str, str] = {"text": self.text, "trust": self.trust}
        if self.source is not None:
            said["source"] = self.source
        return said


@dataclass(frozen=True)
class Result:
    """What a body may return: its output, and the documents it has read for it.

    The caller gets ``output``, the gate is told of ``documents``. Raises ``TypeError`` when one of
    them is no :class:`Document`.
    """

    output: Any
    documents: Sequence[Document] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", tuple(self.documents))
        for document in self.documents:
            if not isinstance(document, Document):
                raise TypeError(f"a document is a toolgate_client.Document: {document!r:.100}")


for _class in (Document, Result):
    _class.__module__ = "toolgate_client"
del _class
