"""Manifests: ids go in and the same ids come out, in their order; members pick some of them by one bit each."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import manifests

IDS = st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=40), unique=True)


@given(IDS)
def test_ids_come_out_as_they_went_in(ids: list[str]) -> None:
    assert manifests.unpack(manifests.pack(ids)) == ids


@given(IDS.flatmap(lambda ids: st.tuples(st.just(ids), st.sets(st.sampled_from(ids)) if ids else st.just(set()))))
def test_members_name_exactly_the_chosen_in_their_order(given_ids: tuple[list[str], set[str]]) -> None:
    ids, chosen = given_ids
    members = manifests.members_of(ids, chosen)
    assert manifests.select(ids, members) == [record_id for record_id in ids if record_id in chosen]
    assert members is None or len(members) == (len(ids) + 7) // 8


def test_all_of_them_need_no_bitmap_and_none_of_them_is_not_all() -> None:
    assert manifests.members_of(["a", "b"], {"a", "b"}) is None
    assert manifests.members_of(["a", "b"], set()) == b"\0"
    assert manifests.select(["a", "b"], b"\0") == []
    assert manifests.select(["a", "b"], None) == ["a", "b"]


def test_the_ninth_id_has_its_own_bit() -> None:
    ids = [f"r{number}" for number in range(17)]
    for number, record_id in enumerate(ids):
        assert manifests.select(ids, manifests.members_of(ids, {record_id})) == [ids[number]]


def test_a_manifest_is_small() -> None:
    ids = [f"5698a809-87a5-4169-ab9b-c4a6222ae2dd#chunk-{number:06d}" for number in range(1_000)]
    assert len(manifests.pack(ids)) < sum(map(len, ids)) / 5


@given(IDS.flatmap(lambda ids: st.tuples(st.just(ids), st.dictionaries(st.sampled_from(ids or [""]), st.integers(0)))))
def test_each_chosen_record_keeps_its_short_digest(given_digests: tuple[list[str], dict[str, int]]) -> None:
    ids, digests = given_digests
    digests = {record_id: digest for record_id, digest in digests.items() if record_id in ids}
    members = manifests.members_of(ids, set(digests))
    packed = manifests.pack_digests(ids, digests)
    expected = {record_id: manifests.short(digest) for record_id, digest in digests.items()}
    assert manifests.select_digests(ids, members, packed) == expected
    assert len(packed) == 8 * len(digests)
