"""The first answers of a new process may all come at once, to as many threads as there are."""

import subprocess
import sys

# msgspec learns a class on first use and crashes where two threads do so at once; a short switch interval shows it.
# A process that is forked before any answer came is as new as one that is started.
_FIRST_ANSWERS = """
import os, sys, threading
import msgspec
from vecfleet.stores.pinecone.clients import ANSWERS
sys.setswitchinterval(1e-6)
def first(answer, start):
    start.wait()
    try:
        msgspec.json.decode(b'{"namespaces": [], "vectors": [], "name": "n"}', type=answer)
    except msgspec.ValidationError:
        pass
for _ in range(10):
    child = os.fork()
    if child == 0:
        for answer in ANSWERS:
            start = threading.Barrier(8)
            threads = [threading.Thread(target=first, args=(answer, start)) for _ in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("alive" if status == 0 else f"ended with {status}")
"""


def test_new_processes_survive_eight_first_answers_at_once() -> None:
    # When eight threads of a new process decode each kind of answer for the first time, ten processes in a row
    done = subprocess.run([sys.executable, "-c", _FIRST_ANSWERS], capture_output=True, text=True, check=False)

    # Then each of them lives on
    assert (done.returncode, done.stdout.split()) == (0, ["alive"] * 10), done.stderr
