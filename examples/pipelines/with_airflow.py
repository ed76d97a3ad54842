"""An Airflow DAG that moves vectors. Put it with `move.py` into the DAGs folder; trigger it with a plan and its digest.

`python with_airflow.py PLAN DIGEST` runs it once, here.
"""

import sys
from typing import Any

import move
from airflow.sdk import dag, task


@dag(schedule=None, params={"plan": "", "digest": ""}, default_args={"retries": 3})
def move_vectors() -> None:
    @task
    def start(params: dict[str, Any], run_id: str) -> int:
        return move.start(params["plan"], params["digest"], run_id)

    @task
    def wait_until_proven(job: int) -> int:
        return move.wait_until_proven(job)

    @task
    def move_readers(job: int, run_id: str) -> int:
        return move.move_readers(job, run_id)

    move_readers(wait_until_proven(start()))


moving = move_vectors()

if __name__ == "__main__":
    run = moving.test(run_conf={"plan": sys.argv[1], "digest": sys.argv[2]})
    sys.exit(run.state != "success")
