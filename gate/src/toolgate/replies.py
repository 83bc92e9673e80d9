"""What a client's reply to ``run_tool`` says, as the kernel speaks of it. Pure."""

from __future__ import annotations

from toolgate.jsonvalue import JSONValue
from toolgate.kernel.past import Document
from toolgate.kernel.result import ToolError, ToolLost, ToolOutput, ToolReply, ToolSuspended
from toolgate.wire.messages import Reply, RPCError
from toolgate.wire.params import Observe, bad_params, read_params


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
        return (
            ToolSuspended(documents) if suspended else ToolOutput(reply.result["output"], documents)
        )
    except RPCError as error:
        told = f"the client's reply to run_tool has wrong documents: {error.message}"
        return ToolError(told, "ProtocolError")


def _documents(sent: JSONValue) -> tuple[Document, ...]:
    """Return what a body has read; raises :class:`RPCError`."""
    if not isinstance(sent, list):
        raise bad_params(["documents: must be a list"])
    return tuple(
        [
            Document(read.text, read.source, read.trust)
            for place, item in enumerate(sent)
            for read in (read_params(Observe, item, "documents", str(place)),)
        ]
    )
