"""The description of the service at `/openapi.json` is valid, and the fleet's API answers as it says."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from job_table import JobTable, plan_of, planned
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from orchestrator.bootstrap import Fleet
from orchestrator.web.app import create
from vecfleet.fleet.models import PREFIX
from vecfleet.settings import Settings
from vecfleet.tenancy.tokens import TokenFile

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
ELSEWHERE = "/erasures", "/dry-run"  # these go to the vector database, and have stories


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    parts = Fleet(settings.model_copy(update={"api_requests_per_second": 1e6}))
    yield create(parts)
    parts.database.dispose()


def is_openapi(description: dict[str, Any]) -> bool:
    try:
        schemathesis.openapi.from_dict(description).validate()
    except jsonschema_rs.ValidationError:
        return False
    return True


def test_the_description_of_the_service_is_valid_openapi(app: FastAPI) -> None:
    described = app.openapi()
    assert is_openapi(described)
    assert not is_openapi({**described, "paths": {f"{PREFIX}/jobs": {"get": {"responses": {"200": {}}, "in": 7}}}})


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_sent_is_answered_as_described(
    app: FastAPI, table: JobTable, tokens: TokenFile, mode: GenerationMode
) -> None:
    table.apply(plan_of(planned("s", "t-s")))
    headers = {"Authorization": f"Bearer {tokens.create({'id': 'pipeline', 'role': 'approve'})}"}
    described = schemathesis.openapi.from_asgi("/openapi.json", app).include(path_regex=f"^{PREFIX}/")
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) > 20

    for operation in operations:
        if operation.path.endswith(ELSEWHERE):
            continue

        @settings(
            max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        try:
            check()
        except Unsatisfiable:  # of an endpoint whose every value is allowed
            assert mode is GenerationMode.NEGATIVE
