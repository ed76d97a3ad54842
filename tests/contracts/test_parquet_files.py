"""Mistakes that only a folder of files can make: names as paths, several writers, dead ones, damage, other readers."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import struct
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.contracts.making import like
from vecfleet.errors import (
    BadInput,
    BadRequest,
    NeedsOperator,
    QuotaExhausted,
    StoreError,
    Unavailable,
    WrongKind,
)
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import ParquetIndex, ParquetStore, files

NS = "creator_x_twin_y"


def dense(id: str, first: float = 0.5, **metadata: str) -> Record:
    return Record(id, struct.pack("<4f", first, 1, 2, 3), None, dict(metadata))


@pytest.fixture
def index(tmp_path: Path) -> ParquetIndex:
    """An empty dense index in the folder `exports/brain`."""
    return index_in(tmp_path)


def index_in(root: Path, kind: Kind = Kind.DENSE) -> ParquetIndex:
    store = ParquetStore(root)
    return store.open(store.create_like("exports/brain", like(kind), None, None))


def parts(root: Path, namespace: str = NS) -> list[Path]:
    return sorted((root / "exports/brain" / namespace).glob("*.parquet"))


def test_what_was_handed_out_is_known_beside_a_folder_whose_description_is_damaged(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    store.create_like("exports/brain", like(Kind.DENSE), None, None)
    handed_out = store.hand_out("exports/hers", like(Kind.DENSE))
    for name, text in (("cut-off", '{"handed_'), ("another", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_index.json").write_text(text)

    assert [name for name in store.names() if store.is_handed_out(name)] == ["exports/hers"]
    assert store.describe("exports/hers") == handed_out


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_repeated_upsert_leaves_one_file(index: ParquetIndex, tmp_path: Path) -> None:
    batch = [dense(id) for id in "abc"]

    for _ in range(3):
        index.upsert(NS, batch)

    assert len(parts(tmp_path)) == 1
    assert index.list_ids(NS).ids == ["a", "b", "c"]


def test_an_id_that_is_written_again_leaves_its_older_file(index: ParquetIndex, tmp_path: Path) -> None:
    """Another reader of the files would see both."""
    index.upsert(NS, [dense(id) for id in "abc"])

    index.upsert(NS, [dense("b", first=9), dense("d")])

    held = pa.concat_tables(pq.ParquetFile(path).read() for path in parts(tmp_path))
    assert sorted(held.column("id").to_pylist()) == ["a", "b", "c", "d"]
    assert index.fetch(NS, ["b"]).records["b"] == dense("b", first=9)


def test_the_later_part_wins_where_a_writer_died_before_it_cleared_the_older_one(
    index: ParquetIndex, tmp_path: Path
) -> None:
    # Given a part whose ids are in a later one too, as a crash leaves it
    index.upsert(NS, [dense("a"), dense("b")])
    (older,) = parts(tmp_path)
    shutil.copy(older, tmp_path / "kept")
    index.upsert(NS, [dense("a", first=9), dense("b", first=9)])
    shutil.copy(tmp_path / "kept", older)

    # When it is read, then each id is there once, as it was written last
    assert index.list_ids(NS).ids == ["a", "b"]
    assert index.fetch(NS, ["a"]).records["a"] == dense("a", first=9)

    # And a deleted one stays deleted
    index.delete(NS, ["a"])
    assert index.list_ids(NS).ids == ["b"]

    # And the write that died, repeated, clears the older part
    index.upsert(NS, [dense("a", first=9), dense("b", first=9)])
    assert not older.exists()
    assert len(parts(tmp_path)) == 1


def test_many_overlapping_parts_are_listed_in_order(index: ParquetIndex) -> None:
    ids = [f"{n:04}" for n in range(600)]
    for start in range(7):
        index.upsert(NS, [dense(id) for id in ids[start::7]])

    first = index.list_ids(NS, limit=250)
    second = index.list_ids(NS, first.next_token, limit=1_000)

    assert first.ids + second.ids == ids
    assert second.next_token is None
    described = index.namespace(NS)
    assert described is not None and described.count == 600


def test_what_a_dead_writer_left_is_no_data_and_is_cleared(index: ParquetIndex, tmp_path: Path) -> None:
    index.upsert(NS, [dense("a")])
    (part,) = parts(tmp_path)
    young, old = part.with_name(".new-young"), part.with_name(".new-old")
    for draft in (young, old):
        shutil.copy(part, draft)
    an_hour_ago = time.time() - 4_000
    os.utime(old, (an_hour_ago, an_hour_ago))

    index.upsert(NS, [dense("b")])

    assert index.list_ids(NS).ids == ["a", "b"]
    assert young.exists() and not old.exists()


def test_what_a_dead_process_left_of_a_deleted_namespace_is_deleted_before_anybody_takes_it_for_data(
    index: ParquetIndex, tmp_path: Path
) -> None:
    # Given a process that died between the end of a namespace and that of its files
    index.upsert(NS, [dense("a")])
    index.upsert("another", [dense("b")])
    folder = tmp_path / "exports/brain"
    (folder / NS).rename(folder / ".deleted-0123")
    # When anybody looks for namespaces
    assert [info.name for info in index.namespaces()] == ["another"]
    # Then nothing of it is left for whoever reads all files of the folder, as a bulk import does
    assert [part.parent.name for part in folder.rglob("*.parquet")] == ["another"]


def test_a_deletion_that_leaves_files_says_so(
    index: ParquetIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file system that does not let go of a file
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    index.upsert(NS, [dense("a")])
    monkeypatch.setattr(os, "unlink", refuse)
    # Then the deletion is not said to be done
    with pytest.raises(NeedsOperator, match="left of a deleted namespace"):
        index.delete_namespace(NS)
    # And who only looks for namespaces finds those that are there
    assert list(index.namespaces()) == []


# --- several processes ------------------------------------------------------------------------------------------------


JOIN_S = 500.0  # four processes that import all of it at once, on two busy cores


def _write_and_delete(root: Path, number: int) -> None:
    files.LOCK_PATIENCE_S = JOIN_S  # who gets a lock is chance: one of four may be the last again and again
    store = ParquetStore(root)
    index = store.open(store.describe("exports/brain"))
    for round in range(5):
        index.upsert(NS, [dense(f"{number}-{round}-{n:03}") for n in range(50)])
        index.delete(NS, [f"shared-{n:03}" for n in range(number * 50 + round * 10, number * 50 + round * 10 + 10)])


def test_processes_write_and_delete_at_once_and_nothing_is_lost_or_comes_back(
    index: ParquetIndex, tmp_path: Path
) -> None:
    # Given one part that several processes delete from, each its own ids
    index.upsert(NS, [dense(f"shared-{n:03}") for n in range(250)])
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_and_delete, args=(tmp_path, number)) for number in range(4)]

    # When they run at once, each adding records of its own
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_S)

    # Then what was added is there, what was deleted is not, and what nobody touched is still there
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    added = [f"{number}-{round}-{n:03}" for number in range(4) for round in range(5) for n in range(50)]
    kept = [f"shared-{n:03}" for n in range(200, 250)]
    page, listed = index.list_ids(NS), []
    while True:
        listed += page.ids
        if page.next_token is None:
            break
        page = index.list_ids(NS, page.next_token)
    assert listed == sorted(added + kept)


def test_a_frozen_writer_makes_the_others_wait_and_say_so(
    index: ParquetIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.05)
    index.upsert(NS, [dense("a")])

    with (tmp_path / f"exports/brain/{NS}/_namespace.json").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process keeps"):
            index.upsert(NS, [dense("b")])

    index.upsert(NS, [dense("b")])
    assert index.list_ids(NS).ids == ["a", "b"]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_record_that_was_changed_in_its_file_is_refused_and_its_neighbours_are_not(
    index: ParquetIndex, tmp_path: Path
) -> None:
    index.upsert(NS, [dense("a", text="before"), dense("b")])
    (part,) = parts(tmp_path)
    table = pq.ParquetFile(part).read()
    place = table.column_names.index("metadata")
    pq.write_table(table.set_column(place, table.field(place), pa.array(['{"text":"after"}', None])), part)

    assert index.fetch(NS, ["b"]).records["b"] == dense("b")
    with pytest.raises(BadRequest, match="'a' is not what was written"):
        index.fetch(NS, ["a"])


@pytest.mark.parametrize("keep", [100, -10])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    index = index_in(tmp_path)
    index.upsert(NS, [dense("a")])
    (part,) = parts(tmp_path)
    part.write_bytes(part.read_bytes()[:keep])

    with pytest.raises(BadRequest, match="damaged"):
        index.list_ids(NS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1, "kind": "dense"}'])
def test_a_description_that_describes_nothing_is_refused(tmp_path: Path, text: str) -> None:
    index_in(tmp_path)
    (tmp_path / "exports/brain/_index.json").write_text(text)

    with pytest.raises(BadInput, match="does not describe an index"):
        ParquetStore(tmp_path).describe("exports/brain")


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    index_in(tmp_path)
    file = tmp_path / "exports/brain/_index.json"
    file.write_text(file.read_text().replace('"digest_version": 1', '"digest_version": 2'))

    with pytest.raises(BadInput, match="another version"):
        ParquetStore(tmp_path).describe("exports/brain")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": 7, "schema": null}', '{"name": "a"}'])
def test_a_description_of_a_namespace_that_is_none_is_refused(index: ParquetIndex, tmp_path: Path, text: str) -> None:
    index.upsert(NS, [dense("a")])
    (tmp_path / "exports/brain" / NS / "_namespace.json").write_text(text)

    for look in (lambda: list(index.namespaces()), lambda: index.namespace(NS)):
        with pytest.raises(BadInput, match=f"the _namespace.json of '{NS}' does not describe a namespace"):
            look()


def test_a_folder_that_was_copied_or_renamed_by_hand_is_refused(index: ParquetIndex, tmp_path: Path) -> None:
    index.upsert(NS, [dense("a")])
    folder = tmp_path / "exports/brain" / NS
    shutil.copytree(folder, folder.with_name("copy"))

    with pytest.raises(BadInput, match=f"'copy' in 'exports/brain' says that it is the namespace '{NS}'"):
        list(index.namespaces())


def test_a_part_of_another_program_is_refused(index: ParquetIndex, tmp_path: Path) -> None:
    index.upsert(NS, [dense("a")])
    (part,) = parts(tmp_path)
    table = pq.read_table(part)
    for number, other in enumerate([table.slice(0, 0), table.drop_columns(["metadata"]), table.select(["metadata"])]):
        path = part.with_name(f"part-000000001{number}-{number:032}.parquet")
        pq.write_table(other, path)
        with pytest.raises(BadRequest):
            index.list_ids(NS)
            index.fetch(NS, ["a"])
        path.unlink()
    pq.write_table(table.replace_schema_metadata({b"vecfleet.sha256": b"no"}), part)
    with pytest.raises(BadRequest):
        index.fetch(NS, ["a"])


@pytest.mark.parametrize(
    ("number", "ours"),
    [(errno.ENOSPC, QuotaExhausted), (errno.EROFS, NeedsOperator), (errno.EIO, Unavailable)],
)
def test_what_the_file_system_refuses_is_told_apart(number: int, ours: type[StoreError]) -> None:
    """A full disk pauses the job until somebody makes room; an I/O error is tried again."""
    with pytest.raises(ours, match="could not write: "):
        with files.translated("write"):
            raise OSError(number, os.strerror(number))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../brain", "exports/../brain", "/etc", "a/b/c", "Brain", "exports\\brain", "a//b", ".git"]
)
def test_a_name_that_leads_elsewhere_is_no_index(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        ParquetStore(tmp_path / "root").describe(name)
    with pytest.raises(BadInput):
        ParquetStore(tmp_path / "root").create_like(name, like(Kind.DENSE), None, None)

    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_index_for_one_folder_has_one_name(tmp_path: Path) -> None:
    index_in(tmp_path)
    (tmp_path / "exports/again").symlink_to(tmp_path / "exports/brain")

    with pytest.raises(BadInput, match="is a link"):
        ParquetStore(tmp_path).describe("exports/again")


LONG = ["x" * 512, "X" * 512, "X" * 511 + "x"]
NAMES = ["a", "A", "_index.json", ".hidden", "aux", "a%41", "..", "/", "~", "namespace=a", "p q", *LONG]


def test_every_namespace_has_a_folder_of_its_own(index: ParquetIndex, tmp_path: Path) -> None:
    for name in NAMES:
        index.upsert(name, [dense("a", where=name)])

    assert [namespace.name for namespace in index.namespaces()] == sorted(NAMES)
    assert all(index.fetch(name, ["a"]).records["a"].metadata == {"where": name} for name in NAMES)
    folders = [path.name for path in (tmp_path / "exports/brain").iterdir() if path.is_dir()]
    assert max(map(len, folders)) <= 255
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports"]


def test_a_name_whose_folder_is_anothers_has_one_of_its_own(index: ParquetIndex, tmp_path: Path) -> None:
    """As on a disk that does not tell capitals apart, where `tenant` opens the folder of `Tenant`."""
    index.upsert("Tenant", [dense("a")])
    (tmp_path / "exports/brain/Tenant").rename(tmp_path / "exports/brain/tenant")

    index.upsert("tenant", [dense("b")])

    assert index.list_ids("tenant").ids == ["b"]
    assert [path.name for path in sorted(tmp_path.glob("exports/brain/*/"))] == ["namespace=tenant", "tenant"]


def test_no_plan_learns_where_a_folder_lies(tmp_path: Path) -> None:
    assert index_in(tmp_path).info.host == "parquet:exports/brain"


# --- other readers ----------------------------------------------------------------------------------------------------


def test_any_reader_of_parquet_sees_the_records_with_their_namespaces(tmp_path: Path) -> None:
    index = index_in(tmp_path, Kind.HYBRID)
    sparse = Sparse(struct.pack("<2I", 3, 4_294_967_295), struct.pack("<2f", 0.5, 0.25))
    one = Record("a", struct.pack("<4f", 1, 2, 3, 4), sparse, {"text": "Zürich", "page": 7.0, "tags": ["x", "y"]})
    index.upsert("creator_A", [one])
    index.upsert("__default__", [dense("b")])

    skipped = [".", "_index", "_namespace"]
    folder = ds.dataset(tmp_path / "exports/brain", partitioning=["namespace"], ignore_prefixes=skipped)
    table = folder.to_table().sort_by("id")

    assert table.schema.field("values").type == pa.list_(pa.float32())
    assert table.to_pylist() == [
        {
            "id": "a",
            "values": [1, 2, 3, 4],
            "sparse_values": {"indices": [3, 4_294_967_295], "values": [0.5, 0.25]},
            "metadata": '{"text":"Zürich","page":7.0,"tags":["x","y"]}',
            "namespace": "creator_A",
        },
        {"id": "b", "values": [0.5, 1, 2, 3], "sparse_values": None, "metadata": None, "namespace": "__default__"},
    ]


def test_a_folder_answers_no_queries_and_says_so(index: ParquetIndex) -> None:
    with pytest.raises(WrongKind, match="answers no queries"):
        index.query(NS, dense("a"), 3)


def test_a_folder_is_on_the_disk_before_it_has_its_name_and_its_name_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut an export without its description would be a folder that no reader takes for a namespace."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(handle: int) -> None:
        fsync(handle)
        done.append(f"synced {_shown(Path(f'/proc/self/fd/{handle}').readlink(), tmp_path)}")

    def note_rename(before: Path, after: Path) -> None:
        rename(before, after)
        done.append(f"named {_shown(after, tmp_path)}")

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    index = index_in(tmp_path)
    assert done == [
        "synced .",  # which holds the new folder `exports`
        "synced exports/DRAFT/_index.json",
        "synced exports/DRAFT",
        "named exports/brain",
        "synced exports",
    ]

    done.clear()
    index.create_namespace(NS, None)
    assert done == [
        "synced exports/brain/DRAFT/_namespace.json",
        "synced exports/brain/DRAFT",
        f"named exports/brain/{NS}",
        "synced exports/brain",
    ]


def _shown(path: Path, root: Path) -> str:
    return "/".join("DRAFT" if part.startswith(".new-") else part for part in path.relative_to(root).parts) or "."
