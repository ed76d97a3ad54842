"""The first answers of a new process may all come at once, to as many threads as there are."""

import subprocess
import sys

# msgspec learns a class on first use and crashes where two threads do so at once; a short switch interval shows it.
_FIRST_ANSWERS = """
import sys, threading
import msgspec
from vecfleet.stores.pinecone.clients import ANSWERS
sys.setswitchinterval(1e-6)
start = threading.Barrier(8)
def first(answer):
    start.wait()
    try:
        msgspec.json.decode(b'{"namespaces": [], "vectors": [], "name": "n"}', type=answer)
    except msgspec.ValidationError:
        pass
for answer in ANSWERS:
    threads = [threading.Thread(target=first, args=(answer,)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print("alive")
"""


def test_a_new_process_survives_eight_first_answers_at_once() -> None:
    # When eight threads of a new process decode each kind of answer for the first time, ten processes in a row
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", _FIRST_ANSWERS], capture_output=True, text=True, check=False)

        # Then each of them lives on
        assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
