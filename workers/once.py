"""A property that is computed when it is first asked for, by the one thread that uses the object."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """`functools.cached_property` without its lock.

    Before Python 3.12 all objects of a class share that lock. Each thread of a worker would wait while another thread
    asks the job table, and would wait for ever if that thread is stopped.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "once[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "once[T] | T":
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._compute(instance)
        return value
