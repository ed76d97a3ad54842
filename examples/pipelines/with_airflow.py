"""An Airflow DAG that moves vectors. Put it with `move.py` into the DAGs folder; trigger it with a plan and its digest.

`airflow dags test move_vectors -c '{"plan": "coach.yaml", "digest": "sha256:…"}'` runs it once, here.
"""

from datetime import timedelta
from typing import Any

import move
from airflow.sdk import dag, task

RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=10)}


@dag(schedule=None, params={"plan": "", "digest": ""}, default_args=RETRIES)
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


move_vectors()
