"""Everything that can go wrong, as one tree. Callers catch branches; people read the sentence.

    VecfleetError
    ├── BadInput             what was typed, configured or planned cannot be used; nothing was changed   (exit code 2)
    │   ├── BadName          a namespace, creator or twin name outside the rules
    │   ├── BadPlan          a plan file that is missing, malformed, edited, or made for something else
    │   └── NotFound         an index, job, namespace or file that does not exist
    ├── Refused              a guard said no; the reasons are listed and nothing was changed             (exit code 3)
    ├── Unreachable          the job table, Redis or a look-up service does not answer                   (exit code 4)
    │   ├── Busy                 the job table undid this in favour of another process: the same again may pass
    │   ├── RoutesTooOld         a write would rest on routes that may have changed since; write again
    │   └── WritesFrozen         a job copies the namespace, and its plan stops writers; write again after the job
    └── StoreError           a vector store answered with an error
        ├── Transient        worth another try after a wait
        │   ├── RateLimited      a per-second limit; `retry_after` seconds where the service said so
        │   ├── Unavailable      5xx, a refused or dropped connection
        │   ├── TimedOut         no answer inside the deadline; the call may have been applied
        │   └── UnusableAnswer   an embedding model gave too few vectors, or values that are no numbers
        ├── TooLarge         the request, its answer or its URL is over a size limit: halve it
        ├── BadRequest       the service refuses the content; with one record left, that record is at fault
        │   └── RefusedAlike     it refuses records from all over a batch with one answer: that is about no record
        ├── NeedsOperator    no retry helps until a person acts: the job pauses with this sentence
        │   ├── KeyRefused       401, 403
        │   ├── QuotaExhausted   a monthly or egress allowance, a storage or object quota
        │   ├── WrongDimension   the index takes vectors of another dimension than when the job was made
        │   ├── ModelChanged     an embedding model is another one than when the job was made
        │   └── CostCapReached   embedding more would cost more than the plan allows
        ├── Missing          the index or namespace is not there (404)
        ├── Conflict         it exists already, or its state forbids the call (409, 412)
        │   └── NameIsAlias      a namespace was to be made under the name of an alias
        ├── Changed          somebody wrote to it since it was proven; nothing was deleted
        └── WrongKind        an index whose records cannot be read and written unchanged

An error says what happened and why; `next_step` is what to do or type now. Neither may hold keys or record text. Its
`code` is for programs and tests: it stays when the sentence changes. It is the name of its class unless it has its own.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

_LONGEST_HINT_S = 86_400.0
_ALONE = re.compile("`([^`]+)`")  # a command without a sentence around it


class Objection(str):
    """A reason why an act may not be done, as a sentence for people; its `code` is for programs and tests."""

    def __new__(cls, code: str, sentence: str) -> "Objection":
        objection = super().__new__(cls, sentence)
        objection.code = code
        return objection

    code: str


def in_a_sentence(step: str) -> str:
    """Return a next step as a part of a sentence: a command that stands alone gets its backticks again."""
    return f"`{step}`" if step.startswith("vecfleet ") else step


def _note(step: str) -> str:
    return f"next: {step}"


class VecfleetError(Exception):
    """Something went wrong while moving vectors."""

    exit_code = 1
    code = "fault"

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()

    def __init__(self, message: str | None = None, *, next_step: str | None = None, code: str | None = None) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "")
        self.code = code or self.code
        super().__init__(self.message)
        self._next_step: str | None = None
        self.next_step = next_step

    @property
    def next_step(self) -> str | None:
        """Return what to do or type now; a command alone stands bare. A traceback shows it as a note."""
        return self._next_step

    @next_step.setter
    def next_step(self, step: str | None) -> None:
        alone = _ALONE.fullmatch(step) if step else None
        step = alone[1] if alone else step
        before, self._next_step = self._next_step, step
        if before:
            self.__notes__.remove(_note(before))
        if step:
            self.add_note(_note(step))

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "next_step": self.next_step}


class BadInput(VecfleetError):
    """The input cannot be used; nothing was changed."""

    exit_code = 2


class BadName(BadInput):
    """The name is outside the rules for names."""


class BadPlan(BadInput):
    """The plan cannot be used."""


class NotFound(BadInput):
    """There is no such thing."""


class Refused(VecfleetError):
    """A guard refused; nothing was changed."""

    exit_code = 3

    def __init__(
        self,
        message: str | None = None,
        *,
        next_step: str | None = None,
        code: str | None = None,
        objections: Sequence[str] = (),
    ) -> None:
        self.objections = tuple(objections)
        first = next((said.code for said in (*objections, message) if isinstance(said, Objection)), None)
        super().__init__(message or "; ".join(objections), next_step=next_step, code=code or first)

    def to_json(self) -> dict[str, Any]:
        listed = [{"code": getattr(said, "code", self.code), "message": str(said)} for said in self.objections]
        return super().to_json() | {"objections": listed}


class Unreachable(VecfleetError):
    """A service this needs does not answer."""

    exit_code = 4


class Busy(Unreachable):
    """The job table undid this in favour of another process; the same again may pass."""


class RoutesTooOld(Unreachable):
    """The routes were read too long ago for a write to rest on them; once they are read again, the same may pass."""


class WritesFrozen(Unreachable):
    """A job copies the namespace and its plan stops the writers; the same may pass once the job has ended."""


class StoreError(VecfleetError):
    """The vector store answered with an error."""


class Transient(StoreError):
    """The vector store could not answer just now.

    `retry_after`: the seconds that it asks to wait, a day at the most. Whoever waited as long looks whether it is well.
    """

    def __init__(
        self, message: str | None = None, *, next_step: str | None = None, retry_after: float | None = None
    ) -> None:
        self.retry_after = None if retry_after is None else min(retry_after, _LONGEST_HINT_S)
        super().__init__(message, next_step=next_step)


class RateLimited(Transient):
    """A per-second limit of the vector store was reached."""


class Unavailable(Transient):
    """The vector store is not available."""


class TimedOut(Transient):
    """The vector store did not answer inside the deadline; the call may have been applied."""


class UnusableAnswer(Transient):
    """The embedding model gave an answer that cannot be used."""


class TooLarge(StoreError):
    """The request or its answer is over a size limit of the vector store."""


class BadRequest(StoreError):
    """The vector store refuses the content of the request."""


class RefusedAlike(BadRequest):
    """The vector store refuses every record of the request with the same answer."""


class NeedsOperator(StoreError):
    """The vector store refuses until a person acts."""


class KeyRefused(NeedsOperator):
    """The vector store refuses the API key."""


class QuotaExhausted(NeedsOperator):
    """An allowance of the account is used up."""


class WrongDimension(NeedsOperator):
    """The index takes vectors of another dimension."""


class ModelChanged(NeedsOperator):
    """The embedding model is another one than when the job was made."""


class CostCapReached(NeedsOperator):
    """Embedding more would cost more than the plan allows."""


class Missing(StoreError):
    """The index or namespace is not there."""


class Conflict(StoreError):
    """It exists already, or its state forbids this."""


class NameIsAlias(Conflict):
    """A namespace was to be made under the name of an alias."""


class Changed(StoreError):
    """It was written to since it was proven; nothing was deleted."""


class WrongKind(StoreError):
    """The records of this index cannot be read and written unchanged."""
