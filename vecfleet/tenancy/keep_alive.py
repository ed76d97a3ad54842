"""Keep-alive queries: a namespace that readers come back to is asked now and then, so that it does not go cold.

Hot namespaces are learned from the queries themselves. The service does not document after how long it lets one go
cold. Each keep-alive costs a query's least, 0.25 read units.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from vecfleet import logs
from vecfleet.errors import StoreError
from vecfleet.stores.base import Kind
from vecfleet.stores.serving import Question, Serving
from vecfleet.tenancy.query_metrics import QueryMetrics

log = logs.get_logger("vecfleet.tenancy")

HOT_S = 3_600.0  # a namespace asked in the last hour will be asked again
QUIET_S = 300.0  # a namespace that nobody asked for so long is asked by us
MOST = 100  # namespaces kept warm: at most 100 queries every five minutes


class HotNamespaces:
    """Remembers when each namespace was last asked by a reader, and by us. Give `seen` to a client's `observe`."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._warmed: dict[str, float] = {}

    def seen(self, metrics: QueryMetrics) -> None:
        with self._lock:
            self._asked[metrics.namespace] = self._clock()
            self._asked.move_to_end(metrics.namespace)
            while len(self._asked) > self._most:
                dropped, _ = self._asked.popitem(last=False)
                self._warmed.pop(dropped, None)

    def warmed(self, namespace: str) -> None:
        with self._lock:
            self._warmed[namespace] = self._clock()

    def due(self, hot_s: float = HOT_S, quiet_s: float = QUIET_S) -> list[str]:
        """Return the namespaces that readers will be back for, and that nobody has asked for a while."""
        now = self._clock()
        with self._lock:
            return [
                name
                for name, asked in self._asked.items()
                if now - asked < hot_s and now - max(asked, self._warmed.get(name, asked)) >= quiet_s
            ]


class KeepAlive:
    """Asks the namespaces that are due, from a thread of its own between `start` and `stop`."""

    def __init__(self, serving: Serving, hot: HotNamespaces, every_s: float = QUIET_S / 5) -> None:
        self._serving, self._hot, self._every_s = serving, hot, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keep-alive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def ask_due(self) -> list[str]:
        """Ask each due namespace once; return those that answered. The others are left for the next time."""
        asked = []
        for namespace in self._hot.due():
            try:
                self._serving.ask(namespace, self._smallest())
            except StoreError as error:
                log.info("a keep-alive was not answered", why=type(error).__name__)
                continue
            self._hot.warmed(namespace)
            asked.append(namespace)
        return asked

    def _smallest(self) -> Question:
        info = self._serving.info
        if info.kind is Kind.SPARSE:
            return Question(sparse={"indices": [1], "values": [1.0]}, top_k=1, metadata=False)
        return Question(vector=[1.0] * (info.dimension or 1), top_k=1, metadata=False)

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            self.ask_due()
