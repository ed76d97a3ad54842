"""A client of the fleet's HTTP API for pipelines. Synchronous; safe to share by threads.

Each act has a key, and is sent again under that key while the service does not answer: it is done once, however often
it is sent. A task that a scheduler runs again does the same act once if it gives the same `key` again.
"""

import os
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from vecfleet.errors import BadInput, NotFound, Objection, Refused, Unreachable, VecfleetError
from vecfleet.fleet.models import (
    KEY_HEADER,
    PREFIX,
    Act,
    CleanUp,
    Comment,
    CutOver,
    Erase,
    Erasure,
    GiveUp,
    Jobs,
    JobSummary,
    LeaveBehind,
    Plans,
    PlanSummary,
    Retry,
    RollBack,
    SetLever,
    Start,
    State,
    Status,
    TakeBack,
    Verify,
)

PROVEN: frozenset[State] = frozenset({"verified", "cut_over", "cleaning", "cleaned", "finished"})
"""States of a job that has proven its copy."""
ADDRESS, TOKEN = "VECFLEET_API", "VECFLEET_API_TOKEN"
_ANSWERS_WITHIN_S = 30.0
_ERASES_WITHIN_S = 3_600.0  # reads may lag by a minute, leases last longer
_TRIES = 6
_LONGEST_WAIT_S = 30.0
_backoff = wait_exponential_jitter(multiplier=0.5, max=_LONGEST_WAIT_S)
_A = TypeVar("_A", bound=BaseModel)


class NotAllowed(Refused):
    """The token is unknown, has ended, or is of a role that may not do this."""


class NotReached(VecfleetError):
    """The job came to rest in another state than was waited for."""

    def __init__(self, status: Status, states: Collection[State]) -> None:
        self.status = status
        super().__init__(
            f"job {status.job} rests in {status.state}, and {' or '.join(sorted(states))} was waited for"
            + (f": {status.reason}" if status.reason else ""),
            next_step="; ".join(status.next_steps) or None,
        )


class StillUnderWay(VecfleetError):
    """The job did not reach the state in the time that was given. It goes on."""

    def __init__(self, status: Status, within_s: float) -> None:
        self.status = status
        reasons = [*status.waits, *([status.reason] if status.reason else [])]
        why = f" ({'; '.join(reasons)})" if reasons else ""
        super().__init__(
            f"job {status.job} is {status.state} after {within_s:g} s: {status.done:,} of {status.total:,} "
            f"{status.unit}{why}",
            next_step="wait again, for longer: the job goes on meanwhile",
        )


class _AskAgain(Exception):
    """The service cannot answer now; the same request may pass in `wait_s` seconds."""

    def __init__(self, error: Unreachable, wait_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.wait_s = error, wait_s


class FleetClient:
    """The fleet behind a `vecfleet serve`, as a token of the role read, operate or approve may use it.

    Raises BadInput, NotFound, Refused with the guard's objections, NotAllowed, and Unreachable after several tries.
    """

    def __init__(self, address: str, token: str, *, tries: int = _TRIES, timeout_s: float = _ANSWERS_WITHIN_S) -> None:
        self._http = httpx.Client(
            base_url=address.rstrip("/") + PREFIX,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout_s,
        )
        self._tries = tries

    @classmethod
    def from_environment(cls) -> Self:
        """Build it from VECFLEET_API and VECFLEET_API_TOKEN."""
        missing = [name for name in (ADDRESS, TOKEN) if not os.environ.get(name)]
        if missing:
            raise BadInput(
                f"{' and '.join(missing)} must be set",
                next_step=f"{ADDRESS}=http://HOST:8080, and {TOKEN} of `vecfleet token create --role operate`",
            )
        return cls(os.environ[ADDRESS], os.environ[TOKEN])

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Looking

    def jobs(self, states: Collection[State] = (), *, limit: int | None = None) -> list[JobSummary]:
        """Return all jobs, or those in one of these states, the newest first; no more than `limit`."""
        asked = ({"state": sorted(states)} if states else {}) | ({} if limit is None else {"limit": limit})
        return self._get("/jobs", Jobs, asked).jobs

    def status(self, job: int) -> Status:
        return self._get(f"/jobs/{job}", Status)

    def parked(self, job: int) -> Mapping[str, Any]:
        """Return the records and batches that wait for a decision, as `vecfleet park list --json`.

        For a token of the role `read` it lists no records, and counts them.
        """
        return self._document(f"/jobs/{job}/parked")

    def report(self, job: int) -> Mapping[str, Any]:
        """Return what was moved, proved and paid, as `vecfleet report --json`."""
        return self._document(f"/jobs/{job}/report")

    def plans(self) -> list[PlanSummary]:
        """Return the plan files of the fleet, the newest first."""
        return self._get("/plans", Plans).plans

    def dry_run(self, plan: str) -> Mapping[str, Any]:
        """Check a plan against the world as it is now. Raises Refused with every objection."""
        return self._document(f"/plans/{quote(plan, safe='')}/dry-run")

    def erasure(self, number: int) -> Erasure:
        return self._get(f"/erasures/{number}", Erasure)

    def wait(self, job: int, states: Collection[State] = PROVEN, *, within_s: float, every_s: float = 2.0) -> Status:
        """Return once the job is in one of these states.

        Raises NotReached as soon as it rests in another one, and StillUnderWay after `within_s` seconds. The service
        may be away meanwhile; raises Unreachable if it is away at the end.
        """
        ends = time.monotonic() + within_s
        while True:
            left = ends - time.monotonic()
            try:
                status = self.status(job)
            except Unreachable:
                if left <= 0:
                    raise
            else:
                if status.state in states:
                    return status
                if status.rests:
                    raise NotReached(status, states)
                if left <= 0:
                    raise StillUnderWay(status, within_s)
            time.sleep(max(0.0, min(every_s, left)))

    # Role operate

    def apply(self, plan: str, digest: str, *, no_backup: bool = False, key: str | None = None) -> int:
        """Start a job from a plan file of the fleet, the one with this digest. Return its number."""
        act = self._act("/jobs", Start(plan=plan, digest=digest, no_backup=no_backup), key)
        assert act.job is not None, "the act that starts a job names it"
        return act.job

    def pause(self, job: int, *, key: str | None = None) -> Act:
        return self._act(f"/jobs/{job}/pause", None, key)

    def resume(self, job: int, *, key: str | None = None) -> Act:
        return self._act(f"/jobs/{job}/resume", None, key)

    def retry(
        self,
        job: int,
        what: Literal["failed", "parked", "all"],
        *,
        batches: list[int] | None = None,
        key: str | None = None,
    ) -> Act:
        """Run parked batches again, copy parked records again, or both."""
        return self._act(f"/jobs/{job}/retry", Retry(what=what, batches=batches), key)

    def verify(
        self, job: int, level: Literal["ids", "content", "content+query"] | None = None, *, key: str | None = None
    ) -> Act:
        """Check every target again."""
        return self._act(f"/jobs/{job}/verify", Verify(level=level), key)

    def another_pass(self, job: int, *, key: str | None = None) -> Act:
        """Read every source once more, where the plan lets writers go on."""
        return self._act(f"/jobs/{job}/pass", None, key)

    def set_lever(
        self,
        job: int,
        lever: Literal["window", "hours", "pace", "budget", "passes", "missing", "doubt"],
        value: float,
        *,
        target: str | None = None,
        key: str | None = None,
    ) -> Act:
        return self._act(f"/jobs/{job}/set", SetLever(lever=lever, value=value, target=target), key)

    def comment(self, job: int, text: str, *, key: str | None = None) -> Act:
        return self._act(f"/jobs/{job}/comment", Comment(text=text), key)

    def reverse(self, job: int, *, key: str | None = None) -> Act:
        """Move all readers back to the old side."""
        return self._act(f"/jobs/{job}/reverse", None, key)

    def take_back(self, job: int, records: list[str] | Literal["all"], *, key: str | None = None) -> Act:
        """Make records undecided again that were to stay behind."""
        return self._act(f"/jobs/{job}/take-back", TakeBack(records=records), key)

    def finish(self, job: int, *, key: str | None = None) -> Act:
        """End a proven job and keep both sides."""
        return self._act(f"/jobs/{job}/finish", None, key)

    def cancel(self, job: int, *, key: str | None = None) -> Act:
        """Give the job up; what it wrote stays."""
        return self._act(f"/jobs/{job}/cancel", None, key)

    # Role approve

    def cut_over(self, job: int, percent: int, *, key: str | None = None) -> Act:
        """Move the readers of so many per cent of the twins."""
        return self._act(f"/jobs/{job}/cutover", CutOver(percent=percent), key)

    def leave_behind(
        self,
        job: int,
        *,
        records: list[str] | Literal["all"] | None = None,
        batches: list[int] | Literal["all"] | None = None,
        confirmed: int = 0,
        index: str | None = None,
        key: str | None = None,
    ) -> Act:
        """Let parked records stay behind; for more than a few, confirm their number and name their index."""
        body = LeaveBehind(records=records, batches=batches, confirmed=confirmed, index=index)
        return self._act(f"/jobs/{job}/leave-behind", body, key)

    def clean_up(self, job: int, index: str, *, by_ids: bool = False, key: str | None = None) -> Act:
        """Delete the sources; `index` is the name of the index that loses them."""
        return self._act(f"/jobs/{job}/cleanup", CleanUp(index=index, by_ids=by_ids), key)

    def roll_back(self, job: int, index: str, *, changed: Literal["keep"] | None = None, key: str | None = None) -> Act:
        """Remove what the job wrote; `index` is the name of the index that loses it."""
        return self._act(f"/jobs/{job}/rollback", RollBack(index=index, changed=changed), key)

    def erase(
        self,
        creator: str,
        twin: str | None = None,
        *,
        indexes: list[str] | None = None,
        within_s: float = _ERASES_WITHIN_S,
        key: str | None = None,
    ) -> Erasure:
        """Erase a creator, or one twin, everywhere. Takes a minute or more, until reads show every earlier write."""
        body = Erase(creator=creator, twin=twin, indexes=indexes)
        return Erasure.model_validate(self._post("/erasures", body, key, timeout_s=within_s))

    def give_up_filling(self, index: str, *, key: str | None = None) -> Act:
        """Give up what the service may still do to an index, unknown to all; certificates of erasures name it then."""
        return self._act("/fillings/give-up", GiveUp(index=index), key)

    def _act(self, path: str, body: BaseModel | None, key: str | None) -> Act:
        return Act.model_validate(self._post(path, body, key))

    def _post(self, path: str, body: BaseModel | None, key: str | None, timeout_s: float | None = None) -> Any:
        headers = {KEY_HEADER: key or str(uuid.uuid4())}
        content = body.model_dump(mode="json", exclude_none=True) if body is not None else None
        limits = {} if timeout_s is None else {"timeout": timeout_s}
        return self._ask("POST", path, json=content, headers=headers, **limits)

    def _get(self, path: str, kind: type[_A], asked: Mapping[str, Any] | None = None) -> _A:
        return kind.model_validate(self._ask("GET", path, params=asked))

    def _document(self, path: str) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self._ask("GET", path)
        return document

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        """Send it until it is answered. An act may be sent twice: its key makes it one."""
        tries = Retrying(
            retry=retry_if_exception_type(_AskAgain), stop=stop_after_attempt(self._tries), wait=_wait, reraise=True
        )
        try:
            return tries(self._ask_once, method, path, **request)
        except _AskAgain as last:
            raise last.error from last.__cause__

    def _ask_once(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            place = self._http.base_url
            raise _AskAgain(
                Unreachable(
                    f"the fleet does not answer at {place.scheme}://{place.netloc.decode()}: {type(error).__name__}",
                    next_step=f"check {ADDRESS}: the address of `vecfleet serve`",
                )
            ) from error
        if not answer.is_success:
            raise _error(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise BadInput(
                f"{ADDRESS} answers, and is not the fleet's API",
                next_step=f"check {ADDRESS}: the address of `vecfleet serve`, with no proxy's sign-in before it",
            ) from error


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    told = error.wait_s if isinstance(error, _AskAgain) else None
    return _backoff(state) if told is None else min(told, _LONGEST_WAIT_S)


def _error(answer: httpx.Response) -> VecfleetError | _AskAgain:
    """Return what a refusal means, in the words and with the code of the service."""
    try:
        told = answer.json()
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}  # of something between us and the fleet
    message, step = str(told.get("detail", f"the fleet answered {answer.status_code}")), told.get("next_step")
    code = told.get("code")
    match answer.status_code:
        case 401 | 403:
            return NotAllowed(message, next_step=step, code=code)
        case 404:
            return NotFound(message, next_step=step, code=code)
        case 409:
            objections = [Objection(each["code"], each["message"]) for each in told.get("objections", ())]
            return Refused(message, next_step=step, code=code, objections=objections)
        case 408 | 429 | 502 | 503 | 504:
            after = answer.headers.get("retry-after", "")
            error = Unreachable(message, next_step=step, code=code)
            return _AskAgain(error, float(after) if after.isdigit() else None)
        case status if status < 500:
            return BadInput(message, next_step=step, code=code)
    return Unreachable(message, next_step=step or "see the log of `vecfleet serve`", code=code)
