"""Turn JSON into embeddings in a namespace, and a question into the nearest of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from vecfleet.embedders import DEFAULT_MODEL, TEXTS_AT_ONCE, Embedder, OpenAIEmbedder, embed
from vecfleet.errors import BadInput
from vecfleet.pgvector import naming
from vecfleet.pgvector.chunking import Chunk, chunks, config_named
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.records import VectorEmbedding
from vecfleet.pgvector.schema import DEFAULT_DIMENSION, EmbeddingSchema
from vecfleet.pgvector.store import VectorStore


class EmbeddingPipeline:
    """One namespace of one database, with an embedder. Safe between threads.

    `embedder` takes the place of OpenAI's; `dimension` is that of namespaces created here. Neither is asked for
    anything before the first call, and managing namespaces needs no embedder.
    """

    def __init__(
        self,
        database_connection: DatabaseConnection,
        openai_api_key: str | None = None,
        embedding_model: str = DEFAULT_MODEL,
        config_name: str | None = None,
        namespace: str = "default",
        *,
        embedder: Embedder | None = None,
        dimension: int = DEFAULT_DIMENSION,
    ) -> None:
        self.namespace = naming.check(namespace)
        self.config = config_named(config_name)
        self.vector_store = VectorStore(database_connection, namespace=namespace)
        self.schema = EmbeddingSchema(
            database_connection.database_url, dimension=dimension, database=database_connection
        )
        self._database = database_connection
        if embedder is None and openai_api_key is not None:
            embedder = OpenAIEmbedder(openai_api_key, embedding_model)
        self._embedder = embedder

    def setup_database(self) -> dict[str, Any]:
        """Create the extension and this namespace if they are missing. Safe to repeat.

        Raises ExtensionMissing or KeyRefused, with the command for somebody who may.
        """
        created = self.schema.create_extension()
        if not self.get_namespace_stats(self.namespace)["exists"]:  # else its index would be built anew at each start
            self.schema.create_namespace(self.namespace)
        return {
            "success": True,
            "extension_created": created,
            "connection_info": self._database.test_connection(),
            "namespace": self.get_namespace_stats(self.namespace),
        }

    # Namespaces

    def create_namespace(self, namespace: str) -> bool:
        """Create the namespace, or rebuild its indexes. Raises InvalidNamespace (a ValueError) for an invalid name."""
        return self.schema.create_namespace(namespace)

    def list_namespaces(self) -> list[dict[str, Any]]:
        """Return for each: `namespace`, `table_name`, `embedding_count`, `vector_index_exists`."""
        return self.schema.list_namespaces()

    def get_namespace_stats(self, namespace: str) -> dict[str, Any]:
        """Return `exists`, and `table_name`, `embedding_count`, `collection_count`, `table_size`, …; or `error`."""
        return self.schema.get_namespace_stats(namespace)

    def drop_namespace(self, namespace: str, confirm: bool = False) -> bool:
        """Delete the namespace with everything in it: there is no way back. Raises ValueError without `confirm`."""
        if not confirm:
            raise ValueError("dropping a namespace deletes all of it: say confirm=True")
        return self.schema.drop_namespace(namespace)

    # Collections

    def list_collections(self) -> list[dict[str, Any]]:
        return self.vector_store.list_collections()

    def get_collection_stats(self, collection_name: str) -> dict[str, Any]:
        return self.vector_store.get_collection_stats(collection_name)

    def delete_collection(self, collection_name: str) -> int:
        """Delete every embedding of the collection. Returns how many there were."""
        return self.vector_store.delete_collection(collection_name)

    # Documents

    def process_json_data(
        self,
        json_data: Any,
        collection_name: str = "default",
        document_id: str = "document",
        streaming: bool = False,
    ) -> dict[str, Any]:
        """Cut a document into chunks, embed them, and insert them in place of what the collection holds of it.

        Without `streaming` all is one transaction. With it, `json_data` may be an iterator of any length, and embedded
        chunks are inserted a batch at a time. Memory then keeps only the ids of inserted chunks. Chunks inserted before
        a failure stay, and chunks that the document no longer has are deleted at the end.
        """
        dimension = self._ready()
        pieces = self._chunks(json_data, streaming=streaming)
        strategies: Counter[str] = Counter()
        total = 0
        kept: set[str] = set()
        for batch in _batched(pieces) if streaming else [list(pieces)]:
            strategies.update(chunk.strategy for chunk in batch)
            embedded = self._embedded(batch, dimension, collection_name, document_id)
            if streaming:
                total += self.vector_store.insert_embeddings(embedded)
                kept.update(embedding.chunk_id for embedding in embedded)
            else:
                total = self.vector_store.replace_document(collection_name, document_id, embedded)
        if streaming:
            self.vector_store.delete_from_document(collection_name, document_id, all_but=kept)
        embedder = self._required()
        return {
            "success": True,
            "namespace": self.namespace,
            "collection_name": collection_name,
            "document_id": document_id,
            "total_embeddings": total,
            "chunking_stats": {"total_chunks": sum(strategies.values()), "strategies_used": dict(strategies)},
            "embedding_stats": {"embedding_model": embedder.model, "vector_dimensions": dimension},
        }

    def search_similar(
        self,
        query_text: str,
        collection_name: str | None = None,
        limit: int = 10,
        similarity_threshold: float = 0.0,
        filters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Embed the question and search: `results` are (record, similarity), best first."""
        if not query_text.strip():
            raise BadInput("the question is empty", next_step="ask with a word at least")
        (vector,) = embed(self._required(), [query_text], self.vector_store.dimension())
        results = self.vector_store.similarity_search(
            vector, limit, collection_name, similarity_threshold=similarity_threshold, filters=filters
        )
        return {
            "query_text": query_text,
            "results": results,
            "matched_embeddings": len(results),
            "collection_name": collection_name,
            "similarity_threshold": similarity_threshold,
            "limit": limit,
        }

    def _ready(self) -> int:
        """Return the dimension of the namespace, which is created on first use."""
        self._required()
        if not self.schema.table_factory.table_exists(self.namespace):
            self.schema.create_namespace(self.namespace)
        return self.vector_store.dimension()

    def _required(self) -> Embedder:
        if self._embedder is None:
            raise BadInput(
                "there is no embedder: neither an OpenAI key nor another embedder was given",
                next_step="set OPENAI_API_KEY, or name `--embedder hash` for a rehearsal",
            )
        return self._embedder

    def _chunks(self, data: Any, *, streaming: bool) -> Iterator[Chunk]:
        if isinstance(data, dict | str) or not isinstance(data, Iterable):
            return chunks(data, self.config)
        if isinstance(data, list) and not streaming:
            return chunks(data, self.config)
        parts = (chunks(part, self.config) for part in data)
        return chain.from_iterable(_placed(number, pieces) for number, pieces in enumerate(parts))

    def _embedded(
        self, batch: list[Chunk], dimension: int, collection_name: str, document_id: str
    ) -> list[VectorEmbedding]:
        vectors = embed(self._required(), [chunk.text for chunk in batch], dimension) if batch else []
        model = self._required().model
        return [
            VectorEmbedding(
                chunk_id=chunk.id_in(collection_name, document_id),
                document_id=document_id,
                collection_name=collection_name,
                text=chunk.text,
                embedding=vector,
                strategy=chunk.strategy,
                content_type=chunk.content_type,
                path=chunk.path,
                depth_level=chunk.depth,
                hierarchy_level=chunk.depth,
                semantic_density=chunk.density,
                chunk_size=len(chunk.text.encode()),
                token_count=chunk.tokens,
                key_count=len(chunk.keys),
                contains_arrays=chunk.contains_arrays,
                is_leaf=chunk.is_leaf,
                original_keys=list(chunk.keys),
                metadata={"embedding_model": model, "parent_path": chunk.parent},
            )
            for chunk, vector in zip(batch, vectors, strict=True)
        ]


def _placed(number: int, pieces: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of a streamed document's part, with its number in front of their places."""
    for chunk in pieces:
        path = f"[{number}]" if chunk.path == "$" else f"[{number}].{chunk.path}"
        yield replace(chunk, path=path)


def _batched(pieces: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    while batch := list(islice(pieces, TEXTS_AT_ONCE)):
        yield batch
