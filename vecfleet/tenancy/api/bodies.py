"""The bodies of requests: the sender is known before a byte is read, and no more is read than the limit."""

import re
from collections.abc import Callable

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from vecfleet.tenancy.api.problems import Refusal

BODY_BYTES = 1_000_000
DEPTH = 32  # a filter of Pinecone's nests a few levels
VALUES = 100_000  # the longest vector has 20,000 numbers
# Possessive, so that a string without an end is read once and not once for each quote in it.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{\]},]', re.DOTALL)


async def bounded(request: Request, limit: int) -> Request:
    """Return the same request with its body read. Raises Refusal with 413 for more than `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(f"the body has {int(declared):,} bytes, and may have {limit:,}")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise _too_large(f"the body has more than {limit:,} bytes")
    except ClientDisconnect as error:
        raise Refusal(400, "the body ended before it was complete", next_step="send it again") from error
    message: Message = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def receive() -> Message:
        return message

    return Request(request.scope, receive)


def check_shape(body: bytes) -> None:
    """Refuse JSON that nests too deep or holds too many values, before it is parsed. Raises Refusal."""
    if body.count(b"[") + body.count(b"{") <= DEPTH and body.count(b",") < VALUES:
        return
    depth = values = 0
    for token in _TOKENS.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case b",":
                values += 1
        if depth > DEPTH:
            raise _too_large(f"the JSON nests more than {DEPTH} levels deep")
        if values >= VALUES:
            raise _too_large(f"the JSON holds more than {VALUES:,} values")


def _too_large(detail: str) -> Refusal:
    return Refusal(413, detail, next_step="ask for less at once")


Admit = Callable[[Request], object]
"""Raises Refusal where the sender of a request may not ask this at all. Looks at its headers alone."""
