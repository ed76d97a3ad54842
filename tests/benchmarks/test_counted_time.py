"""Time that is counted: who acts when, and how processors are shared."""

import pytest

from benchmarks.simulating.kernel import Kernel, Line


def played(kernel: Kernel, *acts: object) -> float:
    """Let these actors act until the last of them ended; the time it took."""
    left = len(acts)

    def ending(act: object) -> object:
        def act_and_end() -> None:
            nonlocal left
            act()  # type: ignore[operator]
            left -= 1

        return act_and_end

    for act in acts:
        kernel.spawn(ending(act))  # type: ignore[arg-type]
    kernel.run(lambda: left > 0)
    return kernel.now


def test_who_sleeps_less_acts_first() -> None:
    kernel, seen = Kernel(1), []

    def sleeper(seconds: float) -> object:
        def act() -> None:
            kernel.sleep(seconds)
            seen.append((seconds, kernel.now))

        return act

    played(kernel, sleeper(3.0), sleeper(1.0), sleeper(2.0))
    assert seen == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


@pytest.mark.parametrize(
    ("cores", "processes", "takes"),
    [
        (1, ["a", "b"], 2.0),  # one core does one after the other
        (2, ["a", "b"], 1.0),
        (2, ["a", "a"], 2.0),  # two threads of one process have one lock
        (2, ["a", "b", "c", "d"], 2.0),
    ],
)
def test_processors_are_shared(cores: int, processes: list[str], takes: float) -> None:
    kernel = Kernel(cores)
    took = played(kernel, *(lambda name=name: kernel.compute(name, 1.0) for name in processes))
    assert took == pytest.approx(takes)


def test_the_threads_of_a_process_that_has_no_lock_use_every_core() -> None:
    kernel = Kernel(2)
    assert played(kernel, *[lambda: kernel.compute("postgres", 1.0, single=False)] * 2) == pytest.approx(1.0)


def test_a_long_computation_lets_a_short_one_come_in_between() -> None:
    kernel, ended = Kernel(1), {}

    def computing(name: str, seconds: float) -> object:
        def act() -> None:
            kernel.compute(name, seconds)
            ended[name] = kernel.now

        return act

    played(kernel, computing("long", 1.0), computing("short", 0.01))
    assert ended["short"] < 0.1 < ended["long"]


def test_who_takes_from_an_empty_line_waits_until_something_is_put() -> None:
    kernel, taken = Kernel(1), []
    line: Line[str] = Line(kernel)

    def give() -> None:
        kernel.sleep(2.0)
        line.put("wake-up")

    def take() -> None:
        taken.append((line.take(), kernel.now))

    played(kernel, take, give)
    assert taken == [("wake-up", 2.0)]


def test_what_an_actor_raises_ends_the_simulation() -> None:
    kernel = Kernel(1)

    def fail() -> None:
        kernel.sleep(1.0)
        raise ValueError("a mistake")

    kernel.spawn(fail)
    kernel.spawn(lambda: kernel.sleep(100.0))
    with pytest.raises(ValueError, match="a mistake"):
        kernel.run(lambda: True)
    assert kernel.now == 1.0


def test_actors_that_all_wait_for_each_other_are_told_of() -> None:
    kernel = Kernel(1)
    line: Line[str] = Line(kernel)
    kernel.spawn(lambda: line.take())
    with pytest.raises(RuntimeError, match="waits for another"):
        kernel.run(lambda: True)
