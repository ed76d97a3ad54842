"""The cost of a plan: Pinecone's published metering, done by hand for small numbers."""

from typing import Any

import pytest

from migrations.estimating import CostModel, Prices, Shape
from migrations.plan import Monthly, PlannedMove, Policies
from vecfleet.stores.base import Limits, ReadNodes

# 3,072 dimensions and 712 bytes of id and metadata: 13 KB billed.
SHAPE = Shape(record=13_000, request=13_000, answer=13_000, id=38)
ONE_MOVE = PlannedMove(source="a", records=1_000, to="creator_x_twin_a", creator="x", twin="a")
BY_OWNER = PlannedMove(source="__default__", records=1_000)


def model(shape: Shape = SHAPE, policies: dict[str, Any] | None = None, **other: Any) -> CostModel:
    return CostModel(shape=shape, policies=Policies(**policies or {}), **other)


def test_a_move_of_a_thousand_records_by_hand() -> None:
    # Given 1,000 records of 13 KB: 830 fill a batch, a fetch takes 100 ids, and 150 bytes of enrichment leave 152 to an
    # upsert
    cost = model().estimate([ONE_MOVE])

    # Then source, target and source again are listed in 10 requests, and the source once more when it is gone
    lists = 3 * 10 + 1
    # source and target are fetched in 10 requests each, both again before the deletion, and a sample before it all
    fetches = 4 * 10 + 1
    assert cost.requests == lists + fetches + (6 + 2) + 1
    # a list is 1 read unit, a fetch of 100 is 10, the sample of 10 is 1
    assert cost.read_units == lists + 4 * 100 + 1
    # 13.15 KB a record are written, and the namespace deleted for 5
    assert cost.write_units == pytest.approx(1_000 * 13.15 + 5)
    # each reading answers every record, and its id once in a list
    assert cost.egress_bytes == 3 * 1_000 * (38 + 12) + (4 * 1_000 + 10) * 13_000
    assert cost.dollars == pytest.approx(432 * 16e-6 + 13_155 * 4e-6, abs=1e-4)
    assert cost.records == 1_000 and cost.record_bytes == 13_000


def test_seconds_are_the_narrowest_limit_at_our_share_of_it() -> None:
    # Given a copy of 13.15 MB at 50 MB a second, a verification of 10 fetches at 100 a second, a clean-up of 20
    shared = model().estimate([ONE_MOVE])
    alone = model(policies={"exclusive": True}).estimate([ONE_MOVE])
    assert alone.seconds == pytest.approx(13.15 / 50 + 0.1 + 0.2, abs=0.06)
    assert shared.seconds == pytest.approx(2 * alone.seconds, abs=0.11)


def test_a_batch_holds_what_fits_an_answer_and_an_upsert_what_fits_its_request() -> None:
    assert (model().batch_records, model().upserted_records) == (830, 152)
    large = model(Shape(record=40_000, request=39_850, answer=40_000))
    assert (large.batch_records, large.upserted_records) == (271, 50)
    assert model(Shape(record=100, request=100, answer=100)).batch_records == 1_000
    assert model(Shape(record=9e9, request=9e9, answer=9e9)).batch_records == 1


def test_a_fetch_reads_a_whole_batch_where_the_store_takes_so_many_ids() -> None:
    lane = model(limits=Limits(fetch_ids=1_000))
    assert lane.fetched_records == 830
    assert lane.estimate([ONE_MOVE]).requests == model().estimate([ONE_MOVE]).requests - 4 * (10 - 2)


def test_a_small_namespace_pays_for_whole_requests() -> None:
    one = model(Shape(record=100, request=100, answer=100)).estimate([ONE_MOVE.model_copy(update={"records": 1})])
    assert one.write_units == 5 + 5
    assert one.read_units == (3 + 1) + (4 + 1)


def test_records_that_go_by_owner_need_more_upserts_and_are_deleted_by_id() -> None:
    # Given a namespace whose records spread over 4 owners
    spread = model(owners=4).estimate([BY_OWNER])

    # Then each of 2 batches writes for 4 owners, the larger one in 2 upserts each, and clean-up pays for every KB
    whole = model().estimate([ONE_MOVE])
    assert spread.requests == whole.requests + (4 * 2 + 4 * 1) - (6 + 2)
    assert spread.write_units == pytest.approx(1_000 * 13.15 + 1_000 * 13)


def test_reading_pods_is_not_metered() -> None:
    move = ONE_MOVE.model_copy(update={"ids_file": "ids.csv"})
    assert model(metered_source=False).estimate([move]).read_units == 110 + 100


def test_egress_costs_what_it_is_said_to_cost() -> None:
    free, paid = (model(prices=Prices(egress_gb=price)).estimate([ONE_MOVE]) for price in (0.0, 0.1))
    assert paid.dollars - free.dollars == pytest.approx(paid.egress_bytes / 1e9 * 0.1, abs=1e-4)


def test_no_moves_cost_nothing() -> None:
    nothing = model().estimate([])
    assert (nothing.requests, nothing.dollars, nothing.seconds) == (0, 0, 0)


def month(cost: CostModel, *moves: PlannedMove, nodes: ReadNodes | None = None, held: int = 0) -> Monthly:
    return cost.monthly(moves, 1_000_000, {"all": held}, source_nodes=None, target_nodes=nodes)


def test_a_month_costs_storage_by_the_gigabyte_and_each_query_the_gigabytes_that_it_searches() -> None:
    # Given 1 GB and 3 GB that are merged with 4 GB, unchanged
    moves = [PlannedMove(source=name, records=number, to="all") for name, number in (("a", 10_000), ("b", 30_000))]
    cost = month(model(Shape(record=100_000, request=1, answer=1), {"enrich": False}), *moves, held=40_000)

    # Then 4 GB are stored before and after, and a query of 2 GB in the mean becomes one of 8 GB
    assert cost.before.storage == cost.after.storage == pytest.approx(4 * 0.33)
    assert (cost.before.reads, cost.after.reads) == (2 * 16.0, 8 * 16.0)

    # And records that go to four owners each are searched in quarters
    apart = month(model(Shape(record=100_000, request=1, answer=1), owners=4), BY_OWNER)
    assert apart.after.reads == 0.25 * 16.0


def test_what_is_not_metered_says_why() -> None:
    pods = month(model(metered_source=False), ONE_MOVE)
    assert (pods.before.storage, pods.before.reads, pods.before.because) == (None, None, "in the price of its pods")
    folder = month(model(free_target=True), ONE_MOVE)
    assert (folder.after.storage, folder.after.reads, folder.after.because) == (None, None, "not paid to Pinecone")
    # Its own nodes are paid by the hour: as many dollars as the settings know
    nodes = ReadNodes("b1", shards=2, replicas=3)
    assert month(model(), ONE_MOVE, nodes=nodes).after.because == "6 b1 nodes by the hour"
    assert month(model(prices=Prices(read_node=2.0)), ONE_MOVE, nodes=nodes).after.reads == 6 * 730 * 2.0
