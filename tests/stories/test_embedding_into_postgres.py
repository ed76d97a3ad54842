"""An index of Pinecone is embedded anew into tables of Postgres: the model's vectors, each text paid for once."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from migrations.embedding import Embedding
from migrations.plan import Policies
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.embedding_service import KEY, EmbeddingService, serving
from tests.stories.emulated import row
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from tests.vectors import ask, vector_database
from vecfleet.embedders.opening import look_up, open_model

pytestmark = pytest.mark.story

DIMENSION = 16  # of the model; the old index has 8
TEXTS = [f"what is said of sleep, {n % 10}" for n in range(30)]


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        service.dimension = DIMENSION
        yield service


@pytest.fixture
def world(open_world: OpenWorld, service: EmbeddingService, empty_database_url: str) -> Iterator[World]:
    """Thirty records with ten different texts in an index of Pinecone, and a database with the extension."""
    with vector_database(empty_database_url):
        world = open_world(openai_base_url=service.url, openai_api_key=KEY, pgvector_url=empty_database_url)
        world.emulator.create_index(SMALL)
        rows = [row(f"alma-{n:02}", text=text, page=n) for n, text in enumerate(TEXTS)]
        world.emulator.write(SMALL, "alma", rows)
        yield world


def embeddings(world: World) -> dict[str, tuple[bytes, str]]:
    """Return what a person with psql sees: the vector and the text of each record."""
    url = world.fleet.settings.pgvector_url
    assert url is not None
    held = ask(
        url.get_secret_value(),
        "SELECT chunk_id, encode(vector_send(embedding), 'hex'), to_jsonb(t)::text FROM embeddings_alma t",
    )
    # vector_send gives the dimension and big-endian floats
    return {
        chunk_id: (np.frombuffer(bytes.fromhex(sent)[4:], ">f4").astype("<f4").tobytes(), whole)
        for chunk_id, sent, whole in held
    }


def test_an_index_is_embedded_anew_into_postgres_and_taken_back(world: World, service: EmbeddingService) -> None:
    settings = world.fleet.settings
    card = look_up("openai/any-name", settings)
    options = ReembedOptions(
        source=SMALL,
        target="public",
        embedding=Embedding(card=card, text="{text}"),
        common=Common(policies=Policies(cut_over="none", soak_seconds=0)),
    )
    stores = world.fleet.store, world.fleet.store_named("pgvector")
    made = plan_reembed(*stores, options, model=open_model(card, settings), now=NOW)
    probe, before = Counter(service.billed), world.emulator.dump(SMALL)
    # When the job runs
    world.start(workers=2)
    job_id = world.apply(made)
    world.reaches(job_id, JobState.VERIFIED)
    # Then Postgres holds each record with the vector that the model gives for its text, and each text was billed once
    held = embeddings(world)
    assert {record_id: vector for record_id, (vector, _) in held.items()} == {
        f"alma-{n:02}": np.asarray(service.vector(text), "<f4").tobytes() for n, text in enumerate(TEXTS)
    }
    assert all(text in held[f"alma-{n:02}"][1] for n, text in enumerate(TEXTS))
    assert service.billed - probe == Counter(dict.fromkeys(TEXTS, 1))
    assert world.emulator.dump(SMALL) == before
    world.assert_accounts(job_id)
    # And a roll back leaves nothing of it there, and costs nothing
    acts.roll_back(world.fleet.database, job_id, WHO, None)
    world.reaches(job_id, JobState.ROLLED_BACK)
    url = settings.pgvector_url
    assert url is not None
    there = ask(url.get_secret_value(), "SELECT 1 FROM pg_tables WHERE tablename = 'embeddings_alma'")
    assert there == [] and world.emulator.dump(SMALL) == before
    assert service.billed - probe == Counter(dict.fromkeys(TEXTS, 1))
