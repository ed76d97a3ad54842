"""Several imports into one index at once: it is filled until the last of them has ended."""

from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from orchestrator.ledger.index_acts import IMPORT, Filling
from orchestrator.services import fillings
from tests.contracts.answering import Answer, Answering, Asked
from tests.contracts.test_crossed_accounts import INDEX
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import Accounts

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("other", "ended"), [("InProgress", False), ("Pending", False), ("Queued", False), ("Completed", True)]
)
def test_the_end_of_one_plan_s_import_is_the_end_if_no_other_goes_on(other: str, ended: bool) -> None:
    # Given an import that is complete, and another one into the same index, for another plan
    imports = [
        {"id": id, "uri": f"s3://bucket/{id}", "createdAt": NOW.isoformat(), "status": status}
        for id, status in (("1", "Completed"), ("2", other))
    ]

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/bulk/imports"):
            return Answer(200, {"data": imports})
        return Answer(200, INDEX | {"host": server.address})

    # When the job of the first is to begin
    with Answering(answer) as server:
        settings = {"pinecone_api_key": SecretStr("a key"), "pinecone_controller_host": server.address}
        accounts = Accounts(Settings.model_validate(settings))
        filling = Filling(1, IMPORT, "brain", None, "sha256:1", "ana", NOW)

        # Then the index is filled no longer only if the other one has ended, too
        assert fillings.has_ended(accounts, filling) is ended
