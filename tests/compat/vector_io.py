"""vector-io exports an index, and imports it anew: `python vector_io.py INDEX REGION export|copy`. Prints what is done.

It calls the two classes as vector-io's commands do. These load the clients of every vendor first, and ask for a newer
release of theirs on the internet last.
"""

import sys
from pathlib import Path
from typing import Any

import vdf_io
from vdf_io.export_vdf.pinecone_export import ExportPinecone
from vdf_io.import_vdf.pinecone_import import ImportPinecone

PLACE = {"serverless": True, "environment": None, "cloud": "aws"}
"""Its commands take these as options, or ask for them."""


def main(index: str, region: str, what: str) -> None:
    common: dict[str, Any] = PLACE | {"region": region, "subset": False, "id_list_file": None}
    common |= {"id_range_start": None, "id_range_end": None, "library_version": vdf_io.__version__}
    wanted = {"index": index, "namespaces": "", "modify_to_search": False, "use_list_points": True}
    exported = ExportPinecone.export_vdb(common | wanted | {"model_name": "any", "max_file_size": 1024})
    print(f"exported {exported.args['exported_count']}")
    if what == "export":
        return
    into = {"dir": exported.vdf_directory, "cwd": str(Path.cwd()), "create_new": True, "batch_size": 100}
    ImportPinecone.import_vdb(common | into | {"vector_columns": "vector", "id_column": "id", "hf_dataset": None})
    print("imported")


main(*sys.argv[1:])
