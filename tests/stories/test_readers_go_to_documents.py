"""An application is led from an index of vectors to documents by its route alone, and both sides are compared."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from migrations.creators import Grouping
from migrations.documents import DocumentsOptions, plan_documents
from migrations.plan import Policies
from migrations.recipes import Common
from orchestrator.core.states import JobState
from orchestrator.ledger import rollout as steps
from orchestrator.services import acts
from orchestrator.web.applications import JobTableRoutes
from tests.stories.emulated import CREATOR, Rows, as_twins, assert_same_index, row, target_of
from tests.stories.serving import served
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from vecfleet.stores.serving import Hit
from vecfleet.tenancy import CachedRoutes, HttpRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.evidence_sender import EvidenceSender
from vecfleet.tenancy.tokens import TokenFile

pytestmark = pytest.mark.story

DOCUMENTS = "small-documents"
TWINS = ("alma", "bruno")
KEY, NAME = "_node_content", "node_content"  # of a framework, which documents refuse, and what it is called there
EACH = 30
TOP = 5


def fill(world: World) -> dict[str, Rows]:
    world.emulator.create_index(SMALL)
    for twin in TWINS:
        rows = [
            row(f"{twin}-{n}", chunk_text=f"größer als {n}", page=n, even=n % 2 == 0, **{KEY: f"{{{n}}}"})
            for n in range(EACH)
        ]
        world.emulator.write(SMALL, twin, rows)
    return world.emulator.dump(SMALL)


def apply(world: World, **policies: Any) -> int:
    """Apply a plan that makes documents of the vectors and gives the framework's key another name."""
    options = DocumentsOptions(
        source=SMALL,
        target=DOCUMENTS,
        names={KEY: NAME},
        texts={"chunk_text": {"language": "en"}},
        grouping=Grouping(creator=CREATOR),
        common=Common(policies=Policies(soak_seconds=0, **policies)),
    )
    return world.apply(plan_documents(world.fleet.store, options, now=NOW))


def answers(client: PineconeDelphiClient, before: dict[str, Rows], key: str = KEY) -> list[tuple[Any, ...]]:
    """Ask each twin by some of its own vectors, with filters and without. `key`: what the application calls KEY."""
    filters = (
        None,
        {"even": {"$eq": True}, "page": {"$lt": 20}},
        {"$or": [{key: {"$in": ["{0}", "{7}"]}}, {"page": 3}]},
    )
    seen = []
    for twin in TWINS:
        for n in range(0, EACH, 10):
            vector = np.frombuffer(before[twin][f"{twin}-{n}"].values, "<f4").tolist()
            for filter in filters:
                seen.append(told(client.query(vector, CREATOR, twin, top_k=TOP, filter=filter).matches, key))
        seen.append(told(client.query(vector, CREATOR, twin, top_k=TOP, include_metadata=False).matches, key))
    return seen


def told(hits: Sequence[Hit], key: str) -> tuple[Any, ...]:
    """Return what an application uses of its hits. The last bits of scores depend on how many are computed at once."""
    own = (key, "chunk_text", "page", "even")
    return tuple(
        (hit.id, pytest.approx(hit.score, rel=1e-5), [hit.metadata[key] for key in own] if hit.metadata else None)
        for hit in hits
    )


def test_readers_go_from_vectors_to_documents_and_back_by_their_route_and_both_sides_are_compared(
    open_world: OpenWorld,
) -> None:
    # Given documents made of an index of vectors, and an application that knows the old index and where its routes are
    world = open_world()
    before = fill(world)
    world.start(workers=1)
    job_id = apply(world, shadow_share=1.0)
    world.reaches(job_id, JobState.VERIFIED)
    token = TokenFile(world.folder / "home" / "tokens.json").create({"id": "application", "role": "evidence"})
    with served(world) as address:
        routes = CachedRoutes(HttpRoutes(f"{address}/delphi/routes", token), cache_s=0.2)
        rollout = Rollout(routes, flag=False, legacy_owner=lambda twin: CREATOR)
        client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)
        by_vectors = answers(client, before)
        asked = len(by_vectors)
        assert all(by_vectors)
        assert not world.emulator.calls(operation="query", index=DOCUMENTS)

        # When its readers are moved, which it is told by nothing but its route
        acts.cut_over(world.fleet.database, job_id, WHO, 100)
        world.until("its routes lead to the documents", lambda: rollout.where(CREATOR, "alma").side == "new")
        # Then it gets the same answers from the documents
        assert answers(client, before) == by_vectors
        # And so does an application without routes that is given the new names of the index and of the key
        settings = world.fleet.settings.model_copy(update={"pinecone_index_name": DOCUMENTS})
        assert answers(PineconeDelphiClient(settings=settings), before, NAME) == by_vectors
        # And the vectors were asked the same, and all that they found was found
        world.until("both sides were asked", lambda: client.shadow.seen()[job_id].queries == asked)
        assert EvidenceSender(client.shadow, f"{address}/delphi/evidence", token).send() == asked
        with world.fleet.database.begin() as connection:
            step = steps.current(connection, job_id)
        assert step is not None
        assert (step.evidence.compared, step.evidence.errors, step.evidence.mean_overlap) == (asked, 0, 1.0)

        # And what it writes and deletes now are documents
        client.upsert_vectors([{"id": "new", "values": [1.0] * 8, "metadata": {KEY: "{}"}}], CREATOR, "alma")
        client.delete_vectors(["alma-0"], CREATOR, "alma")
        there = world.emulator.dump(DOCUMENTS)[target_of("alma")]
        assert there["new"].metadata[NAME] == "{}" and "alma-0" not in there
        assert world.emulator.dump(SMALL) == before

        # When they are taken back, then the vectors answer again, and are compared with documents that differ by now
        acts.reverse(world.fleet.database, job_id, WHO)
        world.until("its routes lead to the vectors", lambda: rollout.where(CREATOR, "alma").side == "old")
        assert answers(client, before) == by_vectors
        world.until("both sides were asked", lambda: client.shadow.seen()[job_id].queries == asked)
        evidence = client.shadow.seen()[job_id]
        assert (evidence.compared, evidence.errors) == (asked, 0)
        assert evidence.mean_overlap is not None and 0.5 < evidence.mean_overlap < 1.0


def by_their_keys(there: dict[str, Rows]) -> dict[str, Rows]:
    """Return the records as an application knows them: with its own key, without what a migration remembers."""
    return {
        namespace: {
            id: replace(
                one,
                metadata={
                    KEY if key == NAME else key: value
                    for key, value in one.metadata.items()
                    if key.removeprefix("_") != "vecfleet_prev"
                },
            )
            for id, one in rows.items()
        }
        for namespace, rows in there.items()
    }


def test_an_application_that_writes_to_both_sides_writes_its_keys_under_their_names(open_world: OpenWorld) -> None:
    # Given an application that its routes have write to both sides
    world = open_world()
    fill(world)
    job_id = apply(world, writers="dual")
    rollout = Rollout(CachedRoutes(JobTableRoutes(world.fleet.database), cache_s=0.2), flag=False)
    client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)
    world.until("it writes to both", lambda: rollout.where(CREATOR, "alma").dual)
    # When it writes and deletes before, while and after everything is copied
    client.upsert_vectors([{"id": "first", "values": [1.0] * 8, "metadata": {KEY: "{1}"}}], CREATOR, "alma")
    assert world.emulator.records(DOCUMENTS, target_of("alma"))["first"].metadata[NAME] == "{1}"
    world.start(workers=1)
    world.until("something is copied", lambda: world.move(job_id, "alma").written)
    client.upsert_vectors([{"id": "alma-1", "values": [2.0] * 8, "metadata": {KEY: "{2}"}}], CREATOR, "alma")
    client.delete_vectors(["alma-2"], CREATOR, "alma")
    world.reaches(job_id, JobState.VERIFIED)
    # Then both sides hold the same, the key under its name there
    assert client.journal.count() == 0
    wanted = as_twins(world.emulator.dump(SMALL))
    assert "first" in wanted[target_of("alma")] and "alma-2" not in wanted[target_of("alma")]
    assert_same_index(by_their_keys(world.emulator.dump(DOCUMENTS)), by_their_keys(wanted))
