"""The calls that every release of the SDK must be able to make. Runs in an environment that holds that release alone.

`python smoke.py CONTROL rest|grpc` prints the name of each step that went well; the first that did not ends it.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import pinecone

warnings.simplefilter("ignore")
RELEASE = tuple(int(part) for part in pinecone.__version__.split(".")[:2])
RECORDS = [
    {
        "id": f"r{n}",
        "values": [1.0, float(n), 0.5],
        "sparse_values": {"indices": [n + 1, 90], "values": [0.25, 0.5]},
        "metadata": {"n": n, "kind": "even" if n % 2 == 0 else "odd"},
    }
    for n in range(5)
]


def control_plane(control: str) -> Any:
    """Return the client of the control plane, after every operation of it that this release has."""
    pc: Any = pinecone.Pinecone(api_key="any", host=control)
    spec = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
    pc.create_index(name="smoke", dimension=3, metric="dotproduct", spec=spec)
    described = pc.describe_index("smoke")
    if RELEASE < (10, 0):
        assert (described.name, described.dimension, described.metric) == ("smoke", 3, "dotproduct"), described
        assert described.spec.serverless.region == "us-east-1", described
    assert described.status.ready, described
    assert [index.name for index in pc.list_indexes()] == ["smoke"]
    pc.configure_index("smoke", deletion_protection="enabled")
    assert pc.describe_index("smoke").deletion_protection == "enabled"
    refused(lambda: pc.delete_index("smoke"))
    pc.configure_index("smoke", deletion_protection="disabled")
    refused(lambda: pc.describe_index("of-nobody"))
    return pc


def refused(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - each release has exceptions of its own
        assert "TypeError" not in type(error).__name__, error
    else:
        raise AssertionError("this should have been refused")


def data_plane(index: Any) -> None:
    for namespace in ("", "n"):
        index.upsert(vectors=RECORDS, namespace=namespace)
    fetched = index.fetch(ids=["r1", "missing"], namespace="n").vectors
    assert list(fetched) == ["r1"], fetched
    assert list(fetched["r1"].values) == [1.0, 1.0, 0.5], fetched
    assert list(fetched["r1"].sparse_values.indices) == [2, 90], fetched
    assert fetched["r1"].metadata == {"n": 1, "kind": "odd"}, fetched

    found = index.query(
        vector=[0.0, 1.0, 0.0],
        top_k=2,
        namespace="n",
        filter={"kind": "even"},
        include_metadata=True,
        include_values=True,
    ).matches
    assert [match.id for match in found] == ["r4", "r2"], found
    assert found[0].metadata["n"] == 4, found
    zero = index.query(vector=[0.0, 0.0, 0.0], top_k=5, namespace="n").matches
    assert {match.score for match in zero} == {0.0}, zero
    hybrid = index.query(
        vector=[0.0, 0.0, 0.0], sparse_vector={"indices": [3], "values": [1.0]}, top_k=1, namespace="n"
    ).matches
    assert hybrid[0].id == "r2", hybrid

    index.update(id="r0", set_metadata={"kind": "changed"}, namespace="n")
    assert index.fetch(ids=["r0"], namespace="n").vectors["r0"].metadata["kind"] == "changed"
    index.delete(ids=["r0"], namespace="n")
    assert sorted(ids(index.list(prefix="r", limit=2, namespace="n"))) == ["r1", "r2", "r3", "r4"]
    stats = index.describe_index_stats()
    counts = {name: summary.vector_count for name, summary in stats.namespaces.items()}
    assert counts == {"" if RELEASE < (10, 0) else "__default__": 5, "n": 4}, counts
    assert (stats.dimension, stats.total_vector_count) == (3, 9), stats
    refused(lambda: index.upsert(vectors=[{"id": "x", "values": [1.0]}], namespace="n"))


def ids(pages: Any) -> list[str]:
    """Return the ids of every page, which some releases give as lists and others as answers."""
    return [item if isinstance(item, str) else item.id for page in pages for item in getattr(page, "vectors", page)]


def namespaces(index: Any) -> None:
    """Look at the namespaces and delete one, where the release can."""
    described = index.describe_namespace(namespace="n")
    assert (described.name, int(described.record_count)) == ("n", 4), described
    pages = [getattr(page, "namespaces", None) or [page] for page in index.list_namespaces()]
    assert [item.name for page in pages for item in page] == ["__default__", "n"], pages
    index.delete_namespace(namespace="n")
    refused(lambda: index.describe_namespace(namespace="n"))


def open_grpc(pc: Any, control: str) -> Any:
    host = pc.describe_index("smoke").host
    if RELEASE >= (10, 0):
        return pinecone.Pinecone(api_key="any", host=control, grpc_scheme="http").index(host=host, grpc=True)
    if RELEASE >= (9, 0):
        from pinecone.grpc import GrpcIndex

        return GrpcIndex(host=host, api_key="any", secure=False)
    from pinecone.grpc import GRPCClientConfig, PineconeGRPC

    insecure = GRPCClientConfig(secure=False)
    bare = host.removeprefix("http://")  # these releases cannot read a scheme here
    return PineconeGRPC(api_key="any", host=control).Index(host=bare, grpc_config=insecure)


def main(control: str, transport: str) -> None:
    pc = control_plane(control)
    print("control plane")
    index = open_grpc(pc, control) if transport == "grpc" else pc.Index(host=pc.describe_index("smoke").host)
    data_plane(index)
    print("data plane")
    if RELEASE >= (7, 0):
        namespaces(index)
        print("namespaces")
    pc.delete_index("smoke")
    assert [index.name for index in pc.list_indexes()] == []
    print("deleted")


main(*sys.argv[1:])
