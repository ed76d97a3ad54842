"""A warm parent from which workers and dispatchers are forked: a fleet in which processes die has no seconds to import.

Each line on its input is a name and a log file; the answer is a pid. What is forked is what the commands of the same
name run, except that it is less patient than in production, where a dead leader is replaced, a lost wake-up sent again
and a failed call repeated after longer.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

from orchestrator import dispatcher
from orchestrator.cli import running
from orchestrator.core import retrying
from orchestrator.core.states import QUEUES
from workers import calls
from workers.tasks import celery

FIRST_WAIT_IN_A_TASK_S, FIRST_WAIT_S = 0.1, 0.3  # before a call, and a batch, is tried again; each further one doubles
LEAD_S, RESEND_AFTER_S = 1.0, 1.2
TICK_S, IDLE_TICK_S = 0.1, 0.25  # quicker ticks of nine lives take a fifth of two cores
REST_PER_LOOK = 0.0  # on a busy machine a look takes long
REAP_EVERY_S, BUSY_REST_S, BUDGET_LOOK_EVERY_S = 0.1, 0.1, 1.0
THREADS = 4


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for line in sys.stdin:
        name, log = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            _become(name, Path(log))
        print(pid, flush=True)


def _become(name: str, log: Path) -> None:
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, here in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, here)
        if name.startswith("worker"):
            calls._FIRST_WAIT_S, retrying._FIRST_WAIT_S = FIRST_WAIT_IN_A_TASK_S, FIRST_WAIT_S
            celery.worker_main(
                [
                    *("worker", "--pool", "threads", "--concurrency", str(THREADS), "--queues", ",".join(QUEUES)),
                    *("--hostname", f"vecfleet-{os.getpid()}@%h", "--loglevel", "WARNING"),
                    *("--without-gossip", "--without-mingle"),
                ]
            )
        else:
            dispatcher.LEAD_S, dispatcher.RESEND_AFTER_S = LEAD_S, RESEND_AFTER_S
            dispatcher.TICK_S, dispatcher.IDLE_TICK_S = TICK_S, IDLE_TICK_S
            dispatcher._REST_PER_LOOK, dispatcher._REAP_EVERY_S = REST_PER_LOOK, REAP_EVERY_S
            dispatcher._BUSY_REST_S, dispatcher._BUDGET_LOOK_EVERY_S = BUSY_REST_S, BUDGET_LOOK_EVERY_S
            running.dispatcher()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's code must not go on in the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
