"""The doubles of these tests are called as what they stand for: a change of an interface is told here, by name."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.machine.acting import Service, Worker
from tests.machine.lagging import LaggingIndex
from tests.pgvector.test_documents import Fixed
from tests.tenancy import test_monitor, told
from tests.tenancy.test_api import Words
from vecfleet.embedders.base import Embedder
from vecfleet.stores.base import Aliased, Index, Store
from vecfleet.stores.memory import MemoryIndex, MemoryStore
from vecfleet.tenancy.fences import Books, NoBooks
from vecfleet.tenancy.notifier import Notifier
from vecfleet.tenancy.providers import RouteProvider
from workers.runner import Watcher

TESTS = Path(__file__).parent
OURS = ("vecfleet", "migrations", "orchestrator", "workers", "emulator")
# Those that are made from no class of ours, and the classes of ours that most others are made from.
DOUBLES: list[tuple[type, type]] = [
    (MemoryStore, Store),
    (MemoryIndex, Index),
    (NoBooks, Books),
    (Service, Index),
    (LaggingIndex, Index),
    (LaggingIndex, Aliased),
    (Worker, Watcher),
    (Fixed, Embedder),
    (Words, Embedder),
    (told.Told, RouteProvider),
    (test_monitor.Told, Notifier),
]
Parameters = list[tuple[str, bool]]
"""The names of a method's parameters in order, and whether each may be left out."""


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class, those of the classes it is made from included."""
    members = {name: member for base in reversed(kind.__mro__) for name, member in vars(base).items()}
    return {name: member for name, member in members.items() if not name.startswith("_") and inspect.isfunction(member)}


def parameters(method: Callable[..., Any]) -> Parameters:
    each = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.default is not parameter.empty) for parameter in each]


def written_parameters(method: ast.FunctionDef) -> Parameters:
    given, by_name = [*method.args.posonlyargs, *method.args.args], method.args.kwonlyargs
    first_optional = len(given) - len(method.args.defaults)
    return [(argument.arg, number >= first_optional) for number, argument in enumerate(given)] + [
        (argument.arg, default is not None) for argument, default in zip(by_name, method.args.kw_defaults, strict=True)
    ]


@pytest.mark.parametrize(("double", "real"), DOUBLES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_a_double_has_each_method_of_what_it_stands_for_and_takes_the_same(double: type, real: type) -> None:
    own = methods(double)
    for name, method in methods(real).items():
        if name in own:
            assert parameters(own[name]) == parameters(method), f"{double.__name__}.{name} takes something else"
        else:
            assert hasattr(double, "__getattr__"), f"{double.__name__} lacks {name}, and passes nothing on"


def overrides() -> Iterator[tuple[str, ast.FunctionDef, Callable[..., Any]]]:
    """Yield each method by which a class of the tests replaces one of ours, with its place and ours."""
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text()
        if not re.search(r"^ *class \w+\(", text, re.MULTILINE):
            continue
        tree = ast.parse(text)
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        known = {alias.name: str(node.module) for node in imports for alias in node.names}
        for kind in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
            for base in [base.id for base in kind.bases if isinstance(base, ast.Name)]:
                if known.get(base, "").split(".")[0] in OURS:
                    theirs = methods(getattr(import_module(known[base]), base))
                    for method in [node for node in kind.body if isinstance(node, ast.FunctionDef)]:
                        if method.name in theirs:
                            yield f"{path.relative_to(TESTS)} {kind.name}.{method.name}", method, theirs[method.name]


def test_a_double_that_is_made_from_a_class_of_ours_overrides_methods_as_they_are() -> None:
    found = [(place, written_parameters(method), parameters(theirs)) for place, method, theirs in overrides()]
    assert len(found) > 10
    assert [(place, written, real) for place, written, real in found if written != real] == []


def test_no_test_lends_a_class_methods_that_it_does_not_have() -> None:
    """Python remembers that a class has a protocol's methods: the next test of the process would count on them."""
    lent = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
        if any(keyword.arg == "raising" for keyword in node.keywords)
    ]
    assert lent == []
