"""Lost commits of the job table are noticed: a table of looks, each beside what the look before remembered."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.ledger.continuity import Look, ServerIdentity
from orchestrator.services.lost_commits import lost

BEFORE = ServerIdentity(system="7301", timeline="00000001", started="1790000000.5")
RESTARTED = replace(BEFORE, started="1790000099.5")
LOOK = Look(
    lineage="ours",
    sequence=41,
    server=BEFORE,
    server_before=BEFORE,
    looked_before=datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC),
    synchronous=False,
)


def on(server: ServerIdentity, *, before: ServerIdentity = BEFORE, synchronous: bool = False) -> Look:
    return replace(LOOK, server=server, server_before=before, synchronous=synchronous)


@pytest.mark.parametrize(
    ("look", "highest", "how"),
    [
        pytest.param(LOOK, 41, "it has counted 40 looks of dispatchers, and 41 were made", id="one look is missing"),
        pytest.param(LOOK, 1_000, "and 1,000 were made", id="many looks are missing"),
        pytest.param(
            on(replace(RESTARTED, timeline="00000002"), synchronous=True), 41, "looks", id="a standby that lagged"
        ),
        pytest.param(on(replace(RESTARTED, system="7302")), 40, "its system identifier differs", id="another cluster"),
        pytest.param(
            on(replace(RESTARTED, system="7302"), synchronous=True),
            40,
            "its system identifier differs",
            id="another cluster, and commits waited for a standby",
        ),
        pytest.param(on(replace(RESTARTED, timeline="00000002")), 40, "its timeline differs", id="a standby took over"),
        pytest.param(
            on(replace(RESTARTED, timeline="00000001"), before=replace(BEFORE, timeline="00000002")),
            40,
            "its timeline differs",
            id="a timeline that went back",
        ),
    ],
)
def test_each_sign_of_lost_commits_alone_is_enough(look: Look, highest: int, how: str) -> None:
    why = lost(look, highest)
    assert why is not None and how in why
    assert "Acts after 2026-11-21 12:00:00 UTC may be missing" in why


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(LOOK, id="the server of the look before"),
        pytest.param(on(RESTARTED), id="a restart"),
        pytest.param(
            on(replace(RESTARTED, timeline="00000002"), synchronous=True), id="a standby that commits waited for"
        ),
        pytest.param(on(replace(RESTARTED, system="?")), id="a service that does not tell its system any more"),
        pytest.param(on(RESTARTED, before=replace(BEFORE, system="?")), id="a service that tells its system now"),
        pytest.param(on(replace(RESTARTED, timeline="?")), id="a service that does not tell its timeline any more"),
        pytest.param(on(RESTARTED, before=replace(BEFORE, timeline="?")), id="a service that tells its timeline now"),
    ],
)
def test_without_a_sign_nothing_is_lost(look: Look) -> None:
    assert lost(look, 40) is None
