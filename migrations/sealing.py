"""Vectors of texts, encrypted where they are kept, because a vector lets much of its text be guessed.

A plan names its key by a digest. The keys themselves are in EMBEDDING_CACHE_KEY: NEW,OLD while one takes another's
place. The only module that imports `cryptography`.
"""

import hmac
import secrets

from vecfleet.errors import BadInput, NeedsOperator
from vecfleet.settings import Settings

_SHORTEST = 32
_NONCE_BYTES = 12


class Seal:
    """Encrypts vectors by AES-256-GCM, and hides by HMAC-SHA-256 which texts they are of. Safe between threads."""

    def __init__(self, secret: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # plans that encrypt nothing need not load it

        self._hidden = _derived(secret, "key of a text")
        self._cipher = AESGCM(_derived(secret, "vector"))

    def hide(self, key: bytes) -> bytes:
        """Return the key that a text's vector is kept under: who lacks the secret cannot tell of which text it is."""
        return hmac.digest(self._hidden, key, "sha256")

    def close(self, key: bytes, vector: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, vector, key)

    def open(self, key: bytes, sealed: bytes) -> bytes:
        """Raises NeedsOperator if this is not what was closed under the key."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key)
        except (InvalidTag, ValueError) as error:
            raise NeedsOperator(
                "an encrypted vector was changed in the job table's database since it was kept",
                next_step="find out by whom; `DELETE FROM embedding` there loses nothing but the price of the texts, "
                "then resume",
            ) from error


def key_name(settings: Settings) -> str | None:
    """Return the name of the key for new plans, the first of EMBEDDING_CACHE_KEY; None if it is not set."""
    return next(iter(_keys(settings)), None)


def seal_of(settings: Settings, name: str) -> Seal:
    """Return the seal of the plan's key. Raises BadInput if the key is not to be had here."""
    keys = _keys(settings)
    if name not in keys:
        here = f"holds {' and '.join(keys)}" if keys else "is not set"
        raise BadInput(
            f"the vectors that this job keeps are encrypted by the key {name}, and EMBEDDING_CACHE_KEY {here}",
            next_step="set it as where the plan was made (NEW,OLD holds two), restart the worker, then resume; if the "
            "key is lost, cancel and plan anew",
        )
    return Seal(keys[name])


def _keys(settings: Settings) -> dict[str, str]:
    """Return the secrets by their names, in their order. Raises BadInput."""
    if settings.embedding_cache_key is None:
        return {}
    given = [secret.strip() for secret in settings.embedding_cache_key.get_secret_value().split(",")]
    if any(len(secret) < _SHORTEST for secret in given):
        raise BadInput(
            f"a key in EMBEDDING_CACHE_KEY has fewer than {_SHORTEST} characters",
            next_step="make one by `openssl rand -hex 32`",
        )
    return {_derived(secret, "name")[:4].hex(): secret for secret in given}


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), f"vecfleet embeddings: {purpose}".encode(), "sha256")
