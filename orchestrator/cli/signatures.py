"""Read what a command asks for out of its source: its help and its errors of usage load nothing that its work needs."""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOT = Path(__file__).parents[2]
_HERE = __name__.rpartition(".")[0]
_OURS = ("orchestrator", "migrations", "vecfleet")


def docstring(where: str) -> str:
    """Return the docstring of `module:function`."""
    return ast.get_docstring(_function(where)) or ""


def command(where: str) -> Callable[..., None]:
    """Return a function with the signature and docstring of `module:function`. The module is loaded by the call."""
    module, name = _place(where)
    makers = {**_makers(module), name: _signature(_function(where))}

    @wraps(_made(module, name, makers))
    def run(**given: Any) -> None:
        loaded = import_module(module)
        getattr(loaded, name)(**{key: _as_in(loaded, value) for key, value in given.items()})

    return run


def _as_in(loaded: ModuleType, value: Any) -> Any:
    """Return a choice as the member of the module's own class; any other value as it is."""
    ours = isinstance(value, Enum) and type(value).__module__ == loaded.__name__
    return getattr(loaded, type(value).__name__)(value.value) if ours else value


def _place(where: str) -> tuple[str, str]:
    file, _, name = where.partition(":")
    return f"{_HERE}.{file}", name


def _function(where: str) -> ast.FunctionDef:
    module, name = _place(where)
    function = _makers(module)[name]
    assert isinstance(function, ast.FunctionDef)
    return function


Makers = Mapping[str, ast.stmt]
"""The names of a module, each with the statement that makes it, in the order of the file. An import makes one name."""


@cache
def _makers(module: str) -> Makers:
    place = _ROOT.joinpath(*module.split("."))
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    makers = dict[str, ast.stmt]()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef():
                makers[node.name] = node
            case ast.ClassDef():
                makers[node.name] = _fields(node)
            case ast.Import(names):
                makers |= {_bound(alias): ast.copy_location(ast.Import([alias]), node) for alias in names}
            case ast.ImportFrom(source_module, names, level):
                single = ((alias, ast.ImportFrom(source_module, [alias], level)) for alias in names)
                makers |= {_bound(alias): ast.copy_location(one, node) for alias, one in single}
            case ast.Assign() | ast.AnnAssign():
                targets = (part for part in ast.walk(node) if isinstance(part, ast.Name))
                makers |= {part.id: node for part in targets if isinstance(part.ctx, ast.Store)}
    return makers


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _fields(node: ast.ClassDef) -> ast.stmt:
    """Return the class without its methods, which name what they work with."""
    body = [part for part in node.body if not isinstance(part, ast.FunctionDef)]
    keywords, decorators = node.keywords, node.decorator_list
    return ast.copy_location(ast.ClassDef(node.name, node.bases, keywords, body, decorators), node)


def _signature(node: ast.FunctionDef) -> ast.stmt:
    """Return the function with its docstring alone."""
    return ast.copy_location(
        ast.FunctionDef(node.name, node.args, node.body[:1], node.decorator_list, node.returns), node
    )


def _made(module: str, name: str, makers: Makers) -> Any:
    """Make a name of a module, and the few that it rests on."""
    made: dict[str, Any] = {"__name__": module}
    for node in _resting_on(makers, name):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in _OURS:
            made |= {_bound(alias): _imported(str(node.module), alias.name) for alias in node.names}
        else:
            exec(compile(ast.Module([node], type_ignores=[]), module, "exec"), made)
    return made[name]


def _imported(module: str, name: str) -> Any:
    """Return what a module calls so, without loading the module for a constant, or for the options of commands.

    A class from elsewhere must be the class itself: its values go to the command.
    """
    if module not in sys.modules:
        makers = _makers(module)
        classes = any(isinstance(node, ast.ClassDef) for node in _resting_on(makers, name))
        if name in makers and (module.startswith(f"{_HERE}.") or not classes):
            return _made(module, name, makers)
    loaded = import_module(module)
    return getattr(loaded, name) if hasattr(loaded, name) else import_module(f"{module}.{name}")


def _resting_on(makers: Makers, name: str) -> Sequence[ast.stmt]:
    """Return the statement that makes a name, behind all that it rests on."""
    wanted, unread = set[str](), {name} & makers.keys()
    while unread:
        wanted |= unread
        unread = ({each for one in unread for each in _names_in(makers[one])} & makers.keys()) - wanted
    return list(dict.fromkeys(node for each, node in makers.items() if each in wanted))


def _names_in(node: ast.stmt) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
