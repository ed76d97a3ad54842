"""The pages of docs/recipes that need Postgres beside the index, typed as they stand."""

import pytest

from orchestrator.core.states import JobState
from tests.stories.test_recipes_as_written import Reader
from tests.stories.world import OpenWorld
from tests.vectors import ask, vector_database

pytestmark = pytest.mark.story


def test_pinecone_and_pgvector(open_world: OpenWorld, empty_database_url: str) -> None:
    with vector_database(empty_database_url):
        world = open_world(pgvector_url=empty_database_url).start(workers=1)
        reader = Reader(world, "pinecone-and-pgvector")
        reader.type("vecfleet pg create production --dimension 4")
        for n in range(9):
            ask(
                empty_database_url,
                "INSERT INTO embeddings_production (chunk_id, document_id, collection_name, text, embedding, strategy,"
                " content_type) VALUES (%s, 'd', 'c', %s, %s::vector, 's', 't')",
                f"chunk-{n}", f"größer als {n}", f"[{n},0.1,0,1]",
            )  # fmt: skip
        reader.type_next(2)
        assert len(world.emulator.records("brain", "production")) == 9
        assert "9" in reader.type_next()
        held = "SELECT chunk_id, text, embedding::text FROM {} ORDER BY chunk_id"
        assert ask(empty_database_url, held.format("embeddings_restored")) == ask(
            empty_database_url, held.format("embeddings_production")
        )
        reader.assert_typed_it_all()


def test_keep_in_sync(open_world: OpenWorld, empty_database_url: str) -> None:
    with vector_database(empty_database_url):
        world = open_world(pgvector_url=empty_database_url).start(workers=1)
        reader = Reader(world, "keep-in-sync")
        reader.type("vecfleet pg create production --dimension 4")
        columns = "chunk_id, document_id, collection_name, text, embedding, strategy, content_type"
        added = f"INSERT INTO embeddings_production ({columns}) VALUES (%s, 'd', 'c', 'new', '[1,0,0,1]', 's', 't')"
        for n in range(9):
            ask(empty_database_url, added, f"chunk-{n}")
        reader.type_next()
        assert "lag: the targets hold what the sources held at" in reader.type_next()
        # When an application adds a row, changes one and deletes one
        ask(empty_database_url, added, "late")
        ask(empty_database_url, "UPDATE embeddings_production SET text = 'changed' WHERE chunk_id = 'chunk-1'")
        ask(empty_database_url, "DELETE FROM embeddings_production WHERE chunk_id = 'chunk-2'")
        reader.type_next()
        # Then the copy has followed
        held = world.emulator.records("brain", "production")
        assert held.keys() == {"late", *(f"chunk-{n}" for n in range(9) if n != 2)}
        assert "changed" in held["chunk-1"].metadata.values()
        reader.type_next()
        assert world.job(1).state is JobState.FINISHED
        reader.assert_typed_it_all()
