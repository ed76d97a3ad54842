"""Refusals of the service: one exception, three spellings (data-plane JSON, control-plane JSON, gRPC status)."""

from collections.abc import Mapping

# HTTP status -> (gRPC code, the control plane's word for it)
_SPELLINGS: Mapping[int, tuple[int, str]] = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    402: (9, "PAYMENT_REQUIRED"),
    403: (7, "FORBIDDEN"),
    404: (5, "NOT_FOUND"),
    405: (12, "UNIMPLEMENTED"),
    408: (4, "DEADLINE_EXCEEDED"),
    409: (6, "ALREADY_EXISTS"),
    412: (9, "FAILED_PRECONDITION"),
    413: (3, "PAYLOAD_TOO_LARGE"),
    414: (3, "INVALID_ARGUMENT"),
    415: (3, "INVALID_ARGUMENT"),
    422: (3, "UNPROCESSABLE_ENTITY"),
    429: (8, "RESOURCE_EXHAUSTED"),
    500: (13, "INTERNAL"),
    501: (12, "UNIMPLEMENTED"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}


class Refusal(Exception):
    """The answer to a request that is not carried out."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        word: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.grpc_code, default_word = _SPELLINGS.get(status, (2, "UNKNOWN"))
        self.word = word or default_word
        self.retry_after = retry_after
        self.plain = plain  # the answer is the bare message, not JSON
        self.details: list[dict[str, object]] = [{"reason": reason, "metadata": metadata or {}}] if reason else []

    def data_plane(self) -> dict[str, object]:
        """Return the body that the data plane sends (`rpcStatus` of the official description)."""
        return {"code": self.grpc_code, "message": self.message, "details": self.details}

    def control_plane(self) -> dict[str, object]:
        """Return the body that the control plane sends (`ErrorResponse` of the official description)."""
        return {"error": {"code": self.word, "message": self.message}, "status": self.status}


class Reset(Exception):
    """The connection breaks without an answer."""


class Hang(Exception):
    """No answer ever comes; the connection stays open until the client gives up."""


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def not_found(message: str) -> Refusal:
    return Refusal(404, message)
