"""`python -m workers` is `celery -A workers worker`, and begins sooner.

Celery's own command line loads Flower for each command.
"""

import gc
import sys


def run() -> None:
    gc.disable()  # hardly any of the 500,000 objects that loading makes is garbage
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    from workers.tasks import celery

    gc.freeze()
    gc.enable()
    context = CLIContext(app=celery, no_color=None, workdir=None)
    worker.main(sys.argv[1:], prog_name="python -m workers", obj=context, auto_envvar_prefix="CELERY_WORKER")


if __name__ == "__main__":
    run()
