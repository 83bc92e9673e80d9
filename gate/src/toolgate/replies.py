"""What a client's reply to ``run_tool`` says, as the kernel speaks of it. Pure."""

from __future__ import annotations

from toolgate.jsonvalue import JSONValue
from toolgate.kernel.past import Content, DigestedDocument, Document
from toolgate.kernel.result import ToolError, ToolLost, ToolOutput, ToolReply, ToolSuspended
from toolgate.wire.messages import Reply, RPCError
from toolgate.wire.params import Observe, ObserveDigest, bad_params, read_params


def tool_reply(reply: Reply | None) -> ToolReply:
    """Return what the client says of a body, as the kernel speaks of it."""
    if reply is None:
        return ToolLost("the client went away while it ran")
    if reply.error is not None:
        data = reply.error.data if isinstance(reply.error.data, dict) else {}
        kind = data.get("type")
        return ToolError(
            reply.error.message,
            kind if isinstance(kind, str) else "Exception",
            retryable=data.get("retryable") is not False,
        )
    suspended = isinstance(reply.result, dict) and reply.result.get("suspended") is True
    if not isinstance(reply.result, dict) or suspended is ("output" in reply.result):
        told = "the client's reply to run_tool has neither `output` nor `suspended`, or both"
        return ToolError(told, "ProtocolError")
    sent = reply.result.get("documents")
    try:
        documents = () if sent is None else _documents(sent)
        if suspended:
            return ToolSuspended(documents)
        omitted = reply.result.get("omitted") is True
        return ToolOutput(reply.result["output"], documents, omitted)
    except RPCError as error:
        told = f"the client's reply to run_tool has wrong documents: {error.message}"
        return ToolError(told, "ProtocolError")


def content(sent: JSONValue, *where: str) -> Content:
    """Return content that a client tells of, at ``where`` in what it sent.

    Raises :class:`RPCError` for what is none.
    """
    if isinstance(sent, dict) and "text" not in sent and "digest" in sent:
        told = read_params(ObserveDigest, sent, *where)
        return DigestedDocument(told.digest, told.length, told.source, told.trust)
    read = read_params(Observe, sent, *where)
    return Document(read.text, read.source, read.trust)


def _documents(sent: JSONValue) -> tuple[Content, ...]:
    """Return what a body has read; raises :class:`RPCError`."""
    if not isinstance(sent, list):
        raise bad_params(["documents: must be a list"])
    return tuple([content(item, "documents", str(place)) for place, item in enumerate(sent)])
