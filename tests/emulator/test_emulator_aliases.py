"""Namespace aliases: read through, never written through."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError

Make = Callable[..., Any]


class Service:
    def __init__(self, index: Any, host: str) -> None:
        self.index = index
        self._host = host

    def call(self, method: str, path: str = "", **body: object) -> httpx.Response:
        return httpx.request(method, f"{self._host}/namespace-aliases{path}", json=body or None)


@pytest.fixture
def service(pc: Pinecone, make_index: Make) -> Service:
    """An index with namespaces `one` and `two`, and alias `live` of `one`."""
    index = make_index()
    for name in ("one", "two"):
        index.upsert(vectors=[{"id": name, "values": [1, 2, 3]}], namespace=name)
    service = Service(index, pc.describe_index("things").host)
    assert service.call("POST", name="live", target_namespace="one").status_code == 201
    return service


def reason(answer: httpx.Response) -> object:
    return answer.json()["details"][0]["reason"]


def test_every_read_reaches_the_target_and_names_it(service: Service) -> None:
    index = service.index
    fetched = index.fetch(ids=["one"], namespace="live")
    assert (list(fetched.vectors), fetched.namespace) == (["one"], "one")
    assert [item.id for page in index.list(namespace="live") for item in page.vectors] == ["one"]
    assert index.query(vector=[1, 2, 3], top_k=1, namespace="live").namespace == "one"
    assert index.describe_namespace(name="live").name == "one"
    assert [item.name for page in index.list_namespaces() for item in page.namespaces] == ["one", "two"]
    assert set(index.describe_index_stats().namespaces) == {"one", "two"}


def test_repointing_moves_the_readers(service: Service) -> None:
    answer = service.call("PATCH", "/live", target_namespace="two")
    assert answer.json()["target_namespace"] == "two"
    assert list(service.index.fetch(ids=["one", "two"], namespace="live").vectors) == ["two"]


@pytest.mark.parametrize(
    "write",
    [
        lambda index: index.upsert(vectors=[{"id": "x", "values": [1, 2, 3]}], namespace="live"),
        lambda index: index.update(id="one", set_metadata={"a": 1}, namespace="live"),
        lambda index: index.delete(ids=["one"], namespace="live"),
        lambda index: index.delete(delete_all=True, namespace="live"),
        lambda index: index.delete_namespace(name="live"),
    ],
)
def test_writes_through_an_alias_are_refused(service: Service, write: Callable[[Any], object]) -> None:
    with pytest.raises(ApiError, match="write to the namespace itself"):
        write(service.index)
    assert list(service.index.fetch(ids=["one"], namespace="one").vectors) == ["one"]


def test_names_do_not_clash(service: Service) -> None:
    assert reason(service.call("POST", name="two", target_namespace="one")) == "NAME_IN_USE_BY_NAMESPACE"
    again = service.call("POST", name="live", target_namespace="one")
    assert (again.status_code, reason(again)) == (409, "ALIAS_ALREADY_EXISTS")
    assert again.json()["details"][0]["metadata"] == {"target_namespace": "one"}
    assert reason(service.call("POST", name="chain", target_namespace="live")) == "TARGET_IS_ALIAS"
    assert service.call("POST", name="a b", target_namespace="one").status_code == 400
    assert service.call("POST", name="lost", target_namespace="absent").status_code == 404
    with pytest.raises(ApiError, match="is the name of an alias"):
        service.index.create_namespace(name="live")


def test_a_target_cannot_be_deleted_under_its_alias(service: Service) -> None:
    with pytest.raises(ApiError, match="target of alias 'live'"):
        service.index.delete_namespace(name="one")
    assert service.call("DELETE", "/live").status_code == 200
    service.index.delete_namespace(name="one")
    assert service.index.fetch(ids=["one"], namespace="live").vectors == {}
    assert service.call("GET", "/live").status_code == 404


def test_aliases_are_listed_by_name_prefix_and_target(service: Service) -> None:
    for name, target in (("a1", "two"), ("a2", "one")):
        service.call("POST", name=name, target_namespace=target)
    listed = service.call("GET").json()
    assert ([item["name"] for item in listed["namespace_aliases"]], listed["total_count"]) == (["a1", "a2", "live"], 3)
    page = service.call("GET", "?limit=2").json()
    rest = service.call("GET", f"?limit=2&paginationToken={page['pagination']['next']}").json()
    assert [item["name"] for item in rest["namespace_aliases"]] == ["live"]
    assert [item["name"] for item in service.call("GET", "?target_namespace=one").json()["namespace_aliases"]] == [
        "a2",
        "live",
    ]
    assert [item["name"] for item in service.call("GET", "?prefix=a").json()["namespace_aliases"]] == ["a1", "a2"]
