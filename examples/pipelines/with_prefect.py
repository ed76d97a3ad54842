"""A Prefect flow that moves vectors: `python with_prefect.py PLAN DIGEST`."""

import sys

import move
from prefect import flow, task
from prefect.runtime import flow_run

start = task(move.start, retries=3, retry_delay_seconds=10)
wait_until_proven = task(move.wait_until_proven, retries=3, retry_delay_seconds=10)
move_readers = task(move.move_readers, retries=3, retry_delay_seconds=10)


@flow
def move_vectors(plan: str, digest: str) -> int:
    run = flow_run.get_id()
    return move_readers(wait_until_proven(start(plan, digest, run)), run)


if __name__ == "__main__":
    move_vectors(sys.argv[1], sys.argv[2])
