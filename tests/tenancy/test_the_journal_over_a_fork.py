"""An application that forks while its threads write and replay: the children write and replay as if they were alone."""

import subprocess
import sys
from pathlib import Path

import pytest

# Threads that note and settle all the time, one that is in the middle of a replay for ever, and children of all that.
FORKING = """
import os, signal, sys, threading, time
from pathlib import Path
from vecfleet.names import Tenant
from vecfleet.tenancy import journal
from vecfleet.tenancy.journal import Journal, Sides
from vecfleet.tenancy.places import Place, Where
from vecfleet.tenancy.providers import CachedRoutes

CHILD_S = 120
here = Where(Tenant("ana", "coach"), "old", (Place("old"),), "", (Place("new"),), dual=True)
book = Journal(Path(sys.argv[1]), fresh_s=0.0, abandoned_s=600.0)
in_replay, for_ever = threading.Event(), threading.Event()

def hang(tenant):
    in_replay.set()
    for_ever.wait()

book.settle(book.note(here, ["first"]), both=False)
threading.Thread(target=journal.replay, args=(book, Sides(hang, None, None, None)), daemon=True).start()
in_replay.wait()

class Provider:
    def read(self):
        if os.getpid() == parent:
            reading.set()
            for_ever.wait()
        return b'{}'

parent, reading = os.getpid(), threading.Event()
routes = CachedRoutes(Provider())
threading.Thread(target=routes.refresh, daemon=True).start()
reading.wait()

def write(number):
    while True:
        book.settle(book.note(here, [f"{number}"]), both=True)
        time.sleep(0.002)  # SQLite's lock is not fair: four that never rest may keep a child from it for ever

for number in range(4):
    threading.Thread(target=write, args=(number,), daemon=True).start()

def child():
    noted = book.note(here, [f"of {os.getpid()}"])
    book.settle(noted, both=False)
    alone = lambda tenant: (Where(tenant, "old", (Place("old"),), ""), print)
    left = journal.replay(book, Sides(alone, None, None, None))
    assert book.claim() is None, "its own replay left something that was due"
    assert routes.current() is not None

for turn in range(25):
    time.sleep(0.003 * (turn % 5))
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_S)  # a child that waits for a lock that nobody gives back is ended by it
        try:
            child()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"child {turn} ended with {status}"
print("all children did their work", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("start", range(2))
def test_children_of_a_busy_application_write_and_replay(tmp_path: Path, start: int) -> None:
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path / "journal")],
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert "all children did their work" in told.stdout, told.stdout + told.stderr
