"""Listing tokens of the stores that make their own: a token names the last id that was given."""

import base64

from vecfleet.errors import BadRequest


def token_after(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def last_id(token: str) -> str:
    """Return the id that a token names. Raises BadRequest for a token that `token_after` did not make."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise BadRequest("the listing token is not one of ours") from error
