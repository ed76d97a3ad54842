"""Pagination tokens: opaque to clients, the last name of the page before to us."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from emulator.errors import invalid


def make_token(kind: str, after: str) -> str:
    return urlsafe_b64encode(f"{kind}:{after}".encode()).decode()


def read_token(token: str | None, kind: str) -> str:
    """The last name of the page before; empty at the start."""
    if not token:
        return ""
    try:
        found, _, after = urlsafe_b64decode(token.encode()).decode().partition(":")
    except (Base64Error, UnicodeError, ValueError):
        found = after = ""
    if found != kind or not after:
        raise invalid("Invalid pagination token")
    return after
