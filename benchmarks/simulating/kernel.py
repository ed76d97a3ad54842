"""Time that is counted and not waited for, and processors to share.

Each actor is a thread that runs alone: until it sleeps, waits for processor time or ends. The kernel then lets the one
go on whose time comes first. So what actors do is real and its duration is what was said, and two runs are the same.
"""

import heapq
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

# Who computes longer lets others come in between, as the kernel of an operating system and Python's own lock do.
_QUANTUM_S = 0.005


class Over(BaseException):
    """The simulation has ended: every actor is unwound by it."""


class _Actor:
    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)
        self.thread: threading.Thread | None = None


class Kernel:
    """`spawn` actors, then `run`. Everything else is called by actors. `used`: seconds computed so far, by name."""

    def __init__(self, cores: int) -> None:
        self.now = 0.0
        self.used: defaultdict[str, float] = defaultdict(float)
        self.cores = Resource(self, cores)
        self._single: dict[str, Resource] = {}
        self._due: list[tuple[float, int, _Actor]] = []
        self._numbers = count()
        self._actors: list[_Actor] = []
        self._self = threading.local()
        self._back = threading.Semaphore(0)
        self._over = False
        self._failure: BaseException | None = None

    @property
    def is_acting(self) -> bool:
        """Say whether the calling thread is an actor: nobody else is simulated."""
        return getattr(self._self, "actor", None) is not None

    def spawn(self, act: Callable[[], object]) -> None:
        """An actor that begins now."""
        actor = _Actor()
        actor.thread = threading.Thread(target=self._live, args=(actor, act), daemon=True)
        actor.thread.start()
        self._actors.append(actor)
        self.wake(actor)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Let time pass while this holds. Raises what an actor raised."""
        try:
            while goes_on():
                if not self._due:
                    raise RuntimeError("every actor waits for another")
                self.now, _, actor = heapq.heappop(self._due)
                self._let(actor)
                if self._failure is not None:
                    raise self._failure
        finally:
            self._over = True
            for actor in self._actors:
                if actor.thread is not None and actor.thread.is_alive():
                    self._let(actor)
                    actor.thread.join()

    def sleep(self, seconds: float) -> None:
        """The calling actor goes on so much later."""
        at = self.now + max(0.0, seconds)
        heapq.heappush(self._due, (at, next(self._numbers), self.actor))
        self.park()

    def compute(self, name: str, seconds: float, *, single: bool = True) -> None:
        """The calling actor takes so much processor time, of a process that uses one core at a time if `single`."""
        self.used[name] += seconds
        own = self._single.setdefault(name, Resource(self, 1)) if single else None
        while seconds > 0:
            with ExitStack() as held:
                if own is not None:
                    held.enter_context(own.taken())
                held.enter_context(self.cores.taken())
                self.sleep(min(seconds, _QUANTUM_S))
            seconds -= _QUANTUM_S

    @property
    def actor(self) -> _Actor:
        actor: _Actor = self._self.actor
        return actor

    def park(self) -> None:
        """The calling actor waits until it is woken."""
        if self._over:
            raise Over
        self._back.release()
        self.actor.turn.acquire()
        if self._over:
            raise Over

    def wake(self, actor: _Actor) -> None:
        heapq.heappush(self._due, (self.now, next(self._numbers), actor))

    def _let(self, actor: _Actor) -> None:
        actor.turn.release()
        self._back.acquire()

    def _live(self, actor: _Actor, act: Callable[[], object]) -> None:
        self._self.actor = actor
        actor.turn.acquire()
        try:
            if not self._over:
                act()
        except Over:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failure = error
        finally:
            self._back.release()


class Resource:
    """So many may have it at once; the others wait in the order they came."""

    def __init__(self, kernel: Kernel, capacity: int) -> None:
        self._kernel = kernel
        self._free = capacity
        self._waiting: deque[_Actor] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        if self._free:
            self._free -= 1
        else:
            self._waiting.append(self._kernel.actor)
            self._kernel.park()  # who lets go hands it over
        try:
            yield
        finally:
            if self._waiting:
                self._kernel.wake(self._waiting.popleft())
            else:
                self._free += 1


class Lock:
    """A resource of one, for `with`."""

    def __init__(self, kernel: Kernel) -> None:
        self._resource = Resource(kernel, 1)
        self._held = ExitStack()

    def __enter__(self) -> None:
        taken = self._resource.taken()
        taken.__enter__()
        self._held.push(taken)

    def __exit__(self, *_: object) -> None:
        self._held.close()


class Line(Generic[T]):
    """A queue: who takes from an empty one waits."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._items: deque[T] = deque()
        self._waiting: deque[_Actor] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            self._kernel.wake(self._waiting.popleft())

    def take(self) -> T:
        while not self._items:
            self._waiting.append(self._kernel.actor)
            self._kernel.park()
        return self._items.popleft()
