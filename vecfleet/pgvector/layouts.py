"""The columns and indexes of a namespace's table, as data: the seed's, and those of the project as published.

The project's description (its namespace document) and its code disagree about the table. `SEED` is the description's,
to the letter, except for the second unique constraint on `chunk_id`. `PUBLISHED` has the columns and index names that
the code reads and writes, so that the project's own tools work on a table that was made here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vecfleet.pgvector import naming

LayoutName = Literal["seed", "published"]


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column to create. `type` is SQL; `{vector}` stands for the vector's type and dimension."""

    name: str
    type: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index to create; `{table}` in its name stands for the table's."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False

    def named(self, table: str) -> str:
        name = self.name.format(table=table)
        return naming.fitted(name, keep=self.name.partition("{table}_")[2])


@dataclass(frozen=True, slots=True)
class Layout:
    columns: tuple[ColumnSpec, ...]
    indexes: tuple[IndexSpec, ...]

    def unique_indexes(self) -> Sequence[IndexSpec]:
        return [index for index in self.indexes if index.unique]

    def plain_indexes(self) -> Sequence[IndexSpec]:
        return [index for index in self.indexes if not index.unique]


_C = ColumnSpec
EMBEDDING = "embedding"
SPARSE_COLUMNS = (_C("sparse_indices", "BIGINT[]"), _C("sparse_values", "REAL[]"))

SEED = Layout(
    columns=(
        _C("id", "SERIAL", "NOT NULL"),
        _C("chunk_id", "VARCHAR(512)", "NOT NULL"),
        _C("document_id", "VARCHAR(512)", "NOT NULL"),
        _C("collection_name", "VARCHAR(255)", "NOT NULL"),
        _C("text", "TEXT", "NOT NULL"),
        _C(EMBEDDING, "{vector}", "NOT NULL"),
        _C("strategy", "VARCHAR(50)", "NOT NULL"),
        _C("content_type", "VARCHAR(100)", "NOT NULL"),
        _C("path", "VARCHAR(4096)"),
        _C("parent_chunk_id", "VARCHAR(512)"),
        _C("depth_level", "INTEGER", "DEFAULT 0"),
        _C("hierarchy_level", "INTEGER", "DEFAULT 0"),
        _C("semantic_density", "DOUBLE PRECISION", "DEFAULT 0.0"),
        _C("confidence", "DOUBLE PRECISION", "DEFAULT 1.0"),
        _C("chunk_size", "INTEGER"),
        _C("token_count", "INTEGER"),
        _C("key_count", "INTEGER"),
        _C("contains_arrays", "BOOLEAN", "DEFAULT FALSE"),
        _C("is_leaf", "BOOLEAN", "DEFAULT FALSE"),
        _C("domain_tags", "TEXT[]"),
        _C("original_keys", "TEXT[]"),
        _C("metadata", "JSONB"),
        _C("created_at", "TIMESTAMP", "DEFAULT CURRENT_TIMESTAMP"),
        _C("updated_at", "TIMESTAMP", "DEFAULT CURRENT_TIMESTAMP"),
    ),
    indexes=(
        IndexSpec("{table}_pkey", ("id",), unique=True),
        IndexSpec("{table}_chunk_id_key", ("chunk_id",), unique=True),
        IndexSpec("{table}_collection_idx", ("collection_name",)),
        IndexSpec("{table}_document_idx", ("document_id",)),
        IndexSpec("{table}_strategy_idx", ("strategy",)),
    ),
)
PUBLISHED = Layout(
    columns=(
        _C("id", "SERIAL", "NOT NULL"),
        _C(EMBEDDING, "{vector}"),
        _C("embedding_model", "VARCHAR(100)", "NOT NULL"),
        _C("embedding_created_at", "TIMESTAMP WITH TIME ZONE", "NOT NULL"),
        _C("chunk_id", "VARCHAR(4096)", "NOT NULL"),
        _C("text", "TEXT", "NOT NULL"),
        _C("text_hash", "VARCHAR(64)", "NOT NULL"),
        _C("text_length", "INTEGER"),
        _C("path", "TEXT"),
        _C("level", "INTEGER"),
        _C("parent_id", "VARCHAR(4096)"),
        _C("children_ids", "JSONB"),
        _C("source_file", "TEXT"),
        _C("document_id", "VARCHAR(4096)"),
        _C("collection_name", "VARCHAR(100)"),
        _C("content_type", "VARCHAR(50)"),
        _C("value_types", "JSONB"),
        _C("key_count", "INTEGER"),
        _C("strategy", "VARCHAR(50)"),
        _C("confidence", "REAL"),
        _C("semantic_density", "REAL"),
        _C("domain_type", "VARCHAR(100)"),
        _C("entity_types", "JSONB"),
        _C("performance_metrics", "JSONB"),
        _C("dimension_value", "VARCHAR(1024)"),
        _C("reasoning_content", "JSONB"),
        _C("created_at", "TIMESTAMP WITH TIME ZONE", "DEFAULT now()"),
        _C("updated_at", "TIMESTAMP WITH TIME ZONE", "DEFAULT now()"),
        _C("version", "VARCHAR(20)"),
        _C("processing_pipeline", "VARCHAR(50)"),
        _C("metadata", "JSONB"),  # ours: keys without a column; the project's tools ignore it
    ),
    indexes=(
        IndexSpec("{table}_pkey", ("id",), unique=True),
        IndexSpec("uq_{table}_chunk_id", ("chunk_id",), unique=True),
        IndexSpec("uq_{table}_text_hash_document", ("text_hash", "document_id"), unique=True),
        IndexSpec("ix_{table}_source", ("source_file", "document_id")),
        IndexSpec("ix_{table}_strategy", ("strategy", "confidence")),
        IndexSpec("ix_{table}_content_type", ("content_type", "domain_type")),
        IndexSpec("ix_{table}_path", ("path",)),
        IndexSpec("ix_{table}_collection", ("collection_name",)),
        IndexSpec("ix_{table}_level", ("level",)),
        IndexSpec("ix_{table}_dimension_value", ("dimension_value",)),
        IndexSpec("ix_{table}_created", ("created_at",)),
    ),
)
LAYOUTS: dict[LayoutName, Layout] = {"seed": SEED, "published": PUBLISHED}
