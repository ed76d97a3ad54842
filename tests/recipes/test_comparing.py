"""Two places compared: which namespaces belong together, what becomes of each id, and where another run goes on."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
from planning_world import World, fill

from migrations.comparing import BATCH_RECORDS, Comparison, Position, Result, Wish
from migrations.places import Counterparts, Place, open_place, pair_up
from migrations.reading import Reader
from migrations.renaming import Pair
from vecfleet.errors import BadInput, BadRequest, KeyRefused, NotFound
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, IdPage
from vecfleet.stores.memory import MemoryIndex


def places(world: World, a: str = "memory:a", b: str = "memory:b") -> tuple[Place, Place]:
    return open_place(a, lambda _: world), open_place(b, lambda _: world)


def pairs_of(world: World, a: str, b: str, *renames: str) -> list[tuple[str, str | None, str | None]]:
    return [(pair.label, pair.a, pair.b) for pair in pair_up(*places(world, a, b), list(map(Pair.read, renames)))]


def compared(world: World, a: str = "memory:a", b: str = "memory:b", **wish: object) -> list[str]:
    at_a, at_b = places(world, a, b)
    return lines(Comparison(at_a.reader, at_b.reader, Wish(**wish), threads=2).results(pair_up(at_a, at_b)))  # type: ignore[arg-type]


def lines(results: Iterable[Result]) -> list[str]:
    return [f"{result.symbol} {result.path}" for result in results]


@pytest.fixture
def both(world: World) -> tuple[MemoryIndex, MemoryIndex]:
    """Two indexes without namespaces."""
    return world.index("a"), world.index("b")


def test_each_id_gets_the_symbol_of_what_became_of_it(world: World, both: tuple[MemoryIndex, MemoryIndex]) -> None:
    # Given
    a, b = both
    for index in both:
        fill(index, "prod", ["same", "other"])
    fill(a, "prod", ["gone"])
    fill(b, "prod", ["other"], {"text": "another"})
    fill(b, "prod", ["new"])
    # Then
    assert compared(world) == ["+ prod/gone", "- prod/new", "* prod/other", "= prod/same"]
    assert compared(world, one_way=True) == ["+ prod/gone", "* prod/other", "= prod/same"]
    assert compared(world, ids_only=True) == ["+ prod/gone", "- prod/new", "= prod/other", "= prod/same"]
    assert compared(world, ignored=frozenset(["text"])) == ["+ prod/gone", "- prod/new", "= prod/other", "= prod/same"]


def test_a_flipped_bit_among_many_batches_is_the_only_difference(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    # Given
    ids = [f"r{number:05}" for number in range(3 * BATCH_RECORDS + 7)]
    for index in both:
        for start in range(0, len(ids), 500):
            fill(index, "prod", ids[start : start + 500])
    flipped = ids[2 * BATCH_RECORDS + 1]
    record = both[1].fetch("prod", [flipped]).records[flipped]
    both[1].upsert("prod", [replace(record, values=bytes([record.values[0] ^ 1]) + record.values[1:])])
    # When
    results = compared(world)
    # Then
    assert [line for line in results if not line.startswith("=")] == [f"* prod/{flipped}"]
    assert [line[2:] for line in results] == [f"prod/{id}" for id in ids]


def test_what_differs_in_a_record_is_said_with_the_keys_of_its_metadata(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    # Given records of which one has other values, the next other keys, and the last both
    a, b = both
    for index in both:
        fill(index, "prod", ["1", "2", "3", "4"], {"env": "dev", "page": 1.0, "text": "hello"})
    values = b"\0" * len(a.fetch("prod", ["1"]).records["1"].values)
    b.upsert("prod", [replace(b.fetch("prod", ["1"]).records["1"], values=values)])
    fill(b, "prod", ["2"], {"env": "prod", "text": "hello", "new\nline": True})
    b.upsert("prod", [Record("3", values, metadata={"env": "dev", "page": True, "text": "hello"})])
    at_a, at_b = places(world)
    # When
    results = Comparison(at_a.reader, at_b.reader, Wish(), threads=2).results(pair_up(at_a, at_b))
    # Then
    assert [(result.id, result.why) for result in results] == [
        ("1", "values"),
        ("2", "metadata: env, new%0Aline, page"),
        ("3", "values; metadata: page"),
        ("4", None),
    ]


def test_where_one_namespace_is_named_a_path_is_the_id(world: World, both: tuple[MemoryIndex, MemoryIndex]) -> None:
    fill(both[0], "prod", ["x/1", "50%", "two\nlines"])
    fill(both[0], "prod_v2", ["x/1", "50%", "two\nlines"])
    assert compared(world, "memory:a/prod", "memory:a/prod_v2") == ["= 50%25", "= two%0Alines", "= x/1"]


def test_namespaces_are_paired_by_name_and_those_of_one_side_stand_alone(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    for index, names in zip(both, (["x", "only-a"], ["x", "only-b"]), strict=True):
        for name in names:
            fill(index, name, ["1"])
    assert pairs_of(world, "memory:a", "memory:b") == [
        ("only-a", "only-a", None),
        ("only-b", None, "only-b"),
        ("x", "x", "x"),
    ]
    assert compared(world) == ["+ only-a/1", "- only-b/1", "= x/1"]
    assert compared(world, "memory:a/x") == ["= 1"]


def test_a_pattern_chooses_and_a_rename_says_what_became_of_a_name(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    for name in ("tenant-1", "tenant-2", "staging"):
        fill(both[0], name, ["1"])
    for name in ("t/1", "t/3", "tenant-1", "else"):
        fill(both[1], name, ["1"])
    # Then what B has beyond is told where a pattern or a rename could have made it
    assert pairs_of(world, "memory:a/tenant-*", "memory:b", "tenant-*=t/{1}") == [
        ("t/3", None, "t/3"),
        ("tenant-1", "tenant-1", "t/1"),
        ("tenant-1 (B)", None, "tenant-1"),
        ("tenant-2", "tenant-2", None),
    ]


@pytest.mark.parametrize(
    ("a", "b", "renames", "said"),
    [
        ("memory:a/nope", "memory:b", [], "'memory:a/nope' names no namespace"),
        ("memory:a/x", "memory:b/nope", [], "'memory:b/nope' names no namespace"),
        (
            "memory:a/nope-*",
            "memory:b",
            [],
            "'memory:a/nope-*' names no namespace that is there; the index holds 'x', 'y'",
        ),
        ("memory:a/x*", "memory:b", ["y=z"], "no namespace of the index 'a/x*' matches 'y'; it holds 'x'"),
        ("memory:a/x", "memory:b", ["y=z"], "no namespace of the index 'a/x' matches 'y'; it holds 'x'"),
        ("memory:a", "memory:b", ["nope=x"], "no namespace of the index 'a' matches 'nope'"),
        ("memory:a", "memory:b", ["*=all"], "would come together in 'all'"),
        ("memory:a", "memory:b", ["x-*=t/{2}"], "asks for {2}, and its left side has 1 wildcards"),
        ("memory:a", "memory:b", ["x"], "'x' lacks its new name"),
        ("memory:a", "memory:b/x", [], "'memory:b/x' chooses namespaces of B"),
        ("memory:a", "memory:a", [], "are the same place"),
        ("memory:nope", "memory:b", [], "there is no index 'nope'"),
        ("a", "memory:b", [], "'a' names no store and index"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_read(
    world: World, both: tuple[MemoryIndex, MemoryIndex], a: str, b: str, renames: list[str], said: str
) -> None:
    for index in both:
        fill(index, "x", ["1"])
        fill(index, "y", ["1"])
    with pytest.raises((BadInput, NotFound), match=re.escape(said)) as refused:
        pairs_of(world, a, b, *renames)
    assert "INDEX lists" not in (refused.value.next_step or "")


def test_a_pattern_that_matches_nothing_at_a_is_refused_although_b_has_such_names(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    # Otherwise nothing is compared, and with --one-way that would pass for equal
    fill(both[0], "x", ["1"])
    fill(both[1], "nope-1", ["1"])
    with pytest.raises(NotFound, match="names no namespace that is there; the index holds 'x'"):
        pairs_of(world, "memory:a/nope-*", "memory:b")


def test_a_range_is_compared_alone_and_the_ranges_together_are_all(
    world: World, both: tuple[MemoryIndex, MemoryIndex]
) -> None:
    # Given
    for index in both:
        for name in ("m", "n", "o"):
            fill(index, name, ["1", "2", "3"])
    both[1].delete("n", ["3"])
    whole = compared(world)
    # Then wherever the whole is cut, no id is in both parts or in none
    for line in whole:
        cut = Position.of(line[2:], labelled=True)
        assert compared(world, until=cut) + compared(world, after=cut) == whole


class Unordered(MemoryIndex):
    """Lists the ids of the namespace `odd` backwards."""

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        page = super().list_ids(namespace, token, limit, prefix)
        return replace(page, ids=page.ids[::-1]) if namespace == "odd" else page


class Refusing(MemoryIndex):
    """Reads neither the record `bad` nor the namespace `locked`."""

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        if namespace == "locked":
            raise KeyRefused("the key may not read this")
        if "bad" in ids:
            raise BadRequest("this record cannot be read")
        return super().fetch(namespace, ids)


def beside(world: World, other: type[MemoryIndex], **namespaces: list[str]) -> Iterator[Result]:
    """Compare two indexes of these namespaces, of which the second one is odd."""
    a = world.index("plain")
    b = other(replace(a.info, host="odd.local"), a.limits)
    for name, ids in namespaces.items():
        fill(a, name, ids)
        fill(b, name, ids)
    pairs = [Counterparts(name, name, name, len(ids)) for name, ids in namespaces.items()]
    return Comparison(Reader(a), Reader(b), Wish(), threads=2).results(pairs)


def test_a_listing_out_of_order_is_an_error_and_never_a_verdict(world: World) -> None:
    results = list(beside(world, Unordered, even=["1", "2"], odd=["1", "2"], zero=["1"]))
    assert lines(results) == ["= even/1", "= even/2", "! odd/", "= zero/1"]
    assert results[2].why == "the ids of 'odd' are not listed in byte order: '1' after '2'"


def test_a_record_that_cannot_be_read_costs_no_other(world: World) -> None:
    results = list(beside(world, Refusing, prod=["a", "bad", "c", "d", "e"]))
    assert lines(results) == ["= prod/a", "! prod/bad", "= prod/c", "= prod/d", "= prod/e"]
    assert results[1].why == "this record cannot be read"


class Withholding(MemoryIndex):
    """Lists the record `kept` and does not give it; deletes `going` between listing and reading."""

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        self.delete(namespace, ["going"])
        fetched = super().fetch(namespace, ids)
        return replace(fetched, records={id: record for id, record in fetched.records.items() if id != "kept"})


def test_a_record_that_neither_side_gives_is_not_compared_unless_it_was_deleted(world: World) -> None:
    a = world.index("plain")
    sides = [Withholding(replace(a.info, host=f"{name}.local"), a.limits) for name in "ab"]
    for index in sides:
        fill(index, "prod", ["equal", "going", "kept"])
    readers = map(Reader, sides)
    results = list(Comparison(*readers, Wish(), threads=2).results([Counterparts("prod", "prod", "prod", 3)]))
    assert lines(results) == ["= prod/equal", "! prod/kept"]
    assert results[1].why == "it is listed, and neither side gives it"


def test_a_refused_key_ends_it_after_all_that_came_before(world: World) -> None:
    results: list[Result] = []
    with pytest.raises(KeyRefused):
        for result in beside(world, Refusing, first=["1", "2"], locked=["1"], second=["1"]):
            results.append(result)
    assert lines(results) == ["= first/1", "= first/2", "! locked/"]
