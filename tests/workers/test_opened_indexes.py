"""An open index of a worker process lives as long as the process; the index it stands for may not."""

from dataclasses import replace

from job_table import INDEX
from pydantic import SecretStr

from orchestrator.bootstrap import Fleet
from vecfleet.settings import Settings
from workers.process import WorkerProcess


def test_an_index_made_anew_under_its_old_address_is_opened_anew(database_url: str, redis_url: str) -> None:
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        pinecone_api_key=SecretStr("any"),
        _env_file=None,  # type: ignore[call-arg]
    )
    process = WorkerProcess(Fleet(settings))
    # Given an index that a worker has open
    first = process.index("pinecone", INDEX)
    assert process.index("pinecone", replace(INDEX)) is first
    # When it is deleted and made again with another dimension
    again = replace(INDEX, dimension=8)
    # Then a job on it does not get the description of the old one, by which all its records would be parked
    assert process.index("pinecone", again).info.dimension == 8
