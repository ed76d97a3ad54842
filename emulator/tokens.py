"""Pagination tokens: opaque to clients; to us, the last name of the page before."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from emulator.errors import invalid


def make_token(kind: str, after: str) -> str:
    return urlsafe_b64encode(f"{kind}:{after}".encode()).decode()


def read_token(token: str | None, kind: str) -> str:
    """Return the last name of the page before; empty at the start."""
    if not token:
        return ""
    try:
        token_kind, _, after = urlsafe_b64decode(token.encode()).decode().partition(":")
    except (Base64Error, UnicodeError, ValueError):
        token_kind = after = ""
    if token_kind != kind or not after:
        raise invalid("Invalid pagination token")
    return after
