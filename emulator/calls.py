"""The witness: the calls, in the order in which they were carried out."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

DEFAULT_CALLS = 200_000
DEFAULT_IDS = 4_000_000


@dataclass(slots=True)
class Call:
    operation: str
    index: str | None = None
    namespace: str | None = None
    transport: str = "rest"
    api: str = "vectors"  # vectors, records or documents
    agent: str | None = None  # the client's User-Agent, over REST
    seq: int = 0
    time: float = field(default_factory=time.time)
    status: int = 0  # HTTP status; 0: no answer was sent
    applied: bool = False  # true if the call was carried out
    ids: Sequence[str] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    ms: float = 0.0
    fault: str | None = None


class CallLog:
    """A log with limits on calls and on ids in them. The oldest calls fall out first and are counted in `dropped`."""

    def __init__(self, max_calls: int = DEFAULT_CALLS, max_ids: int = DEFAULT_IDS) -> None:
        self._max_calls = max_calls
        self._max_ids = max_ids
        self._calls: deque[Call] = deque()
        self._ids = 0
        self.last_seq = 0
        self.dropped = 0

    def add(self, call: Call) -> None:
        self.last_seq += 1
        call.seq = self.last_seq
        call.ms = round(1000 * (time.time() - call.time), 3)
        self._calls.append(call)
        self._ids += len(call.ids)
        while self._calls and (len(self._calls) > self._max_calls or self._ids > self._max_ids):
            self._ids -= len(self._calls.popleft().ids)
            self.dropped += 1

    def clear(self) -> None:
        """Forget the calls; sequence numbers go on."""
        self._calls.clear()
        self._ids = self.dropped = 0

    def matching(self, operation: str | None, index: str | None, namespace: str | None, since: int) -> Iterator[Call]:
        for call in self._calls:
            if (
                call.seq > since
                and operation in (None, call.operation)
                and index in (None, call.index)
                and namespace in (None, call.namespace)
            ):
                yield call

    @staticmethod
    def counts(calls: Iterator[Call]) -> dict[str, dict[str, int]]:
        """Count the calls: operation → status → number."""
        counter = Counter((call.operation, str(call.status)) for call in calls)
        counts: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(counter.items()):
            counts.setdefault(operation, {})[status] = number
        return counts

    @staticmethod
    def as_json(call: Call) -> dict[str, object]:
        return asdict(call)
