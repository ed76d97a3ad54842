"""Two ways to start `python -m MODULE WORDS`: `cold`, as typed, and `warm`, forked from a parent that has loaded it.

To load a worker takes a processor two seconds, and most stories are about what comes after that. What is forked has an
environment, a log and a session of its own. It ends when its module ends, without Python's own way out.
"""

import atexit
import ctypes
import faulthandler
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import psutil

from orchestrator.embedded.process import Process
from orchestrator.embedded.programs import PYTHON

_PR_SET_PDEATHSIG = 1  # Linux: prctl(2)
REPOSITORY = Path(__file__).resolve().parents[2]
# What a fleet, its emulator and most commands load. What needs more loads it after the fork.
LOADED = (
    *("orchestrator.cli.app", "orchestrator.cli.jobs", "orchestrator.cli.planning", "orchestrator.cli.watching"),
    *("emulator.server", "orchestrator.cli.processes", "orchestrator.cli.running", "orchestrator.dispatcher"),
    *("celery.bin.celery", "celery.apps.worker", "celery.concurrency.thread", "kombu.transport.redis"),
    *("orchestrator.web.app", "uvicorn", "vecfleet.stores.pinecone", "workers.tasks", "workers.consuming"),
    *("celery.app.amqp", "celery.app.control", "celery.worker.components", "orchestrator.doctor", "workers.threads"),
    *("orchestrator.cli.between", "orchestrator.cli.reembedding", "pinecone.client.indexes", "pgvector.sqlalchemy"),
)


class Launch(Protocol):
    """Start a module with these words, in the repository; its output is appended to `log`."""

    def __call__(
        self, name: str, module: str, *words: str, log: Path, env: Mapping[str, str], port: int | None = None
    ) -> Process: ...


def cold(name: str, module: str, *words: str, log: Path, env: Mapping[str, str], port: int | None = None) -> Process:
    return Process.launch(name, [sys.executable, "-m", module, *words], log=log, cwd=REPOSITORY, env=env, port=port)


def warm(name: str, module: str, *words: str, log: Path, env: Mapping[str, str], port: int | None = None) -> Process:
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.touch()
    # A daemon, as multiprocessing says: who forgets to stop it does not wait for it at the end.
    forked = _parent.Process(target=_become, args=(module, words, log, dict(env)), name=name, daemon=True)
    forked.start()
    assert forked.pid is not None
    created = time.time()
    with suppress(psutil.NoSuchProcess):
        created = psutil.Process(forked.pid).create_time()
    return Process(name, forked.pid, created, log, port, child=_Child(forked))  # type: ignore[arg-type]


_parent = multiprocessing.get_context("forkserver")
_parent.set_forkserver_preload(["tests.stories.preloaded"])


class _Child:
    """The part of `subprocess.Popen` that stories use."""

    def __init__(self, forked: BaseProcess) -> None:
        self._forked = forked

    def poll(self) -> int | None:
        return self._forked.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._forked.join(timeout)
        if self._forked.exitcode is None:
            raise subprocess.TimeoutExpired(self._forked.name, timeout or 0.0)
        return self._forked.exitcode


def _become(module: str, words: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
    os.setsid()
    _end_with_the_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    _begin(module, words, env, REPOSITORY, {1: output, 2: output})


def _begin(
    module: str, words: Sequence[str], env: Mapping[str, str], folder: Path | str, descriptors: Mapping[int, int]
) -> None:
    for here, there in descriptors.items():
        os.dup2(there, here)
    faulthandler.enable()  # a process that crashes says in its log where
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    os.execve = _go_on  # type: ignore[assignment]
    _run(module, words)


def _end_with_the_parent() -> None:
    """Have the kernel end this process with the one that forked it, which ends with pytest however that is stopped."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _go_on(_: str, command: Sequence[str], env: Mapping[str, str]) -> None:
    """Become another module, as `vecfleet worker` becomes `workers`, and keep what is loaded."""
    module, *words = command[len(PYTHON) :]
    os.environ.update(env)
    _run(module, words)
    sys.exit()


def _run(module: str, words: Sequence[str]) -> None:
    if module in ("celery", "workers"):
        from orchestrator import queue

        queue.app.conf.broker_url = queue._broker_from_settings()  # it was made in the parent's environment
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# Isolated, and without what is installed: this starts in a hundredth of a second.
_VISITOR = """#!{python} -SI
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.connect({door!r})
    wish = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(door, [len(wish).to_bytes(8, "big")], [0, 1, 2])
    door.sendall(wish)
    sys.exit(int(door.recv(8)))
"""


def write_program(file: Path) -> None:
    """Write a `vecfleet` for shells: as the installed one, but that each command starts warm."""
    file.write_text(_VISITOR.format(python=sys.executable, door=_door()))
    file.chmod(0o755)


@cache
def _door() -> str:
    """Open a socket for the rest of this process: each visitor names a command and lends its descriptors."""
    place = tempfile.mkdtemp(prefix="vecfleet-")  # the path of a socket must be short
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}/door")
    listener.listen()
    threading.Thread(target=_receive, args=(listener,), daemon=True).start()
    return f"{place}/door"


def _receive(listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_serve, args=listener.accept()[:1], daemon=True).start()


def _serve(visitor: socket.socket) -> None:
    """Run one command to its end. Nobody types two at once."""
    with visitor:
        size, descriptors, _, _ = socket.recv_fds(visitor, 8, 3)
        with visitor.makefile("rb") as said:
            words, folder, env = json.loads(said.read(int.from_bytes(size, "big")))
        code = _finish("orchestrator", words, folder, env, descriptors)
        with suppress(BrokenPipeError):  # whoever typed it was too impatient
            visitor.sendall(str(code).encode())


def type_out(
    *words: str, env: Mapping[str, str], module: str = "orchestrator", folder: Path = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE WORDS` to its end, warm, without anybody at its terminal. Return what it printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nobody:
        files = (nobody, out, err)
        code = _finish(module, words, str(folder), dict(env), [os.dup(file.fileno()) for file in files])
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())


def _finish(module: str, words: Sequence[str], folder: str, env: Mapping[str, str], descriptors: Sequence[int]) -> int:
    """Run a module to its end with these as its three standard files, which are closed here. Return its exit code."""
    lent = [Connection(descriptor) for descriptor in descriptors]
    typed = _parent.Process(target=_type, args=(module, words, folder, env, lent), daemon=True)
    typed.start()
    for end in lent:
        end.close()
    typed.join()
    assert typed.exitcode is not None
    return typed.exitcode


def _type(module: str, words: Sequence[str], folder: str, env: Mapping[str, str], lent: Sequence[Connection]) -> None:
    _begin(module, words, env, folder, {here: end.fileno() for here, end in enumerate(lent)})
