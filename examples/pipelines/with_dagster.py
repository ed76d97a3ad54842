"""A Dagster job that moves vectors: `dagster dev -f with_dagster.py`; its configuration names a plan and its digest.

`python with_dagster.py PLAN DIGEST` runs it once, here.
"""

import sys

import move
from dagster import Config, OpExecutionContext, RetryPolicy, job, op

RETRIES = RetryPolicy(max_retries=3, delay=10)


class Reviewed(Config):
    plan: str
    digest: str


@op(retry_policy=RETRIES)
def start(context: OpExecutionContext, config: Reviewed) -> int:
    return move.start(config.plan, config.digest, context.run_id)


@op(retry_policy=RETRIES)
def wait_until_proven(moving: int) -> int:
    return move.wait_until_proven(moving)


@op(retry_policy=RETRIES)
def move_readers(context: OpExecutionContext, moving: int) -> int:
    return move.move_readers(moving, context.run_id)


@job
def move_vectors() -> None:
    move_readers(wait_until_proven(start()))


if __name__ == "__main__":
    reviewed = Reviewed(plan=sys.argv[1], digest=sys.argv[2])
    done = move_vectors.execute_in_process(run_config={"ops": {"start": {"config": reviewed.model_dump()}}})
    sys.exit(not done.success)
