"""A folder of files as a store: an export is listed, read back and verified like any other index.

`store` finds and creates the folders, `index` is one of them, `parts` the files of one namespace, `tables` Parquet as
their form, for which `columns` turns records into a table and back, `lines` JSON lines as that of a document index,
`folders` names into paths, `files` errors of the file system into ours.

    exports/brain/                           the index, described by `_index.json`
        creator_a_twin_b/                    a namespace, described by `_namespace.json`
            part-0000000001-….parquet        records: id, values, sparse_values, metadata
            part-0000000001-….jsonl          of a document index: one document a line

That is the layout of Pinecone's bulk import, which takes files of either form alone, each for its kind of index.
"""

from vecfleet.stores.parquet.index import ParquetIndex
from vecfleet.stores.parquet.store import ParquetStore

__all__ = ["ParquetIndex", "ParquetStore"]
