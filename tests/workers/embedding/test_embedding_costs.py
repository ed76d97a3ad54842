"""Costs of texts: each request is on the account and under the cap before it is sent, each try of it anew."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from embedding_service import EmbeddingService, Fault, refusal
from job_table import JobTable
from kept_embeddings import ANA, RESERVE_S, TEXTS, Ask, as_card_says, costs, forget, keys_kept, wanted

from orchestrator.core.model import Lease
from orchestrator.ledger import embeddings as kept
from orchestrator.ledger.embeddings import Spent
from vecfleet import errors as e
from vecfleet.embedders.models import EmbeddingModel


def test_a_job_asks_for_no_text_that_could_take_it_over_its_cap(
    service: EmbeddingService, table: JobTable, model: EmbeddingModel, ask: Ask
) -> None:
    # Given a price of a dollar a token, bounded by the bytes of a text
    asks = as_card_says(model, dollars_per_million_tokens=1e6)
    bound = len("".join(TEXTS))
    # When the cap is a dollar short
    with pytest.raises(e.CostCapReached, match=rf"may cost \${bound}\.0000; the job may spend") as reached:
        ask(TEXTS, asks=asks, most_dollars=bound - 1)
    # Then nothing is asked, nothing stays reserved, and it says what to type
    assert service.requests == [] and keys_kept(table) == 0
    assert f"vecfleet set {table.job_id} budget" in (reached.value.next_step or "")
    # And with the cap raised it goes on
    assert ask(TEXTS, asks=asks, most_dollars=bound).asked == 3
    assert ask(TEXTS, asks=asks, most_dollars=0).asked == 0  # what is kept costs nothing


@pytest.mark.parametrize("is_kept", [True, False], ids=["what is answered is kept", "nothing is kept"])
def test_two_batches_at_once_keep_to_one_cap(
    service: EmbeddingService, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask, is_kept: bool
) -> None:
    options = {"asks": as_card_says(model, dollars_per_million_tokens=1e6), "most_dollars": 15, "kept": is_kept}
    with ThreadPoolExecutor() as threads:
        with service.held():
            one = threads.submit(ask, ["a red apple"], lease=leases[0], **options)
            service.wait_for_requests(1)
            with pytest.raises(e.CostCapReached):
                ask(["two plums"], lease=leases[1], **options)
        assert one.result().asked == 1
    assert service.billed == {"a red apple": 1}


@pytest.mark.parametrize("is_kept", [True, False], ids=["what is answered is kept", "nothing is kept"])
def test_a_request_that_is_tried_again_counts_again_under_the_cap_before_it_is_sent(
    is_kept: bool, service: EmbeddingService, table: JobTable, model: EmbeddingModel, ask: Ask
) -> None:
    # Given a cap for two and a half requests, and a service that does the work and then breaks off
    bound = len("".join(TEXTS))
    options = {"asks": as_card_says(model, dollars_per_million_tokens=1e6), "kept": is_kept}
    service.fail(Fault(drops=True, bills=True), times=99)
    with pytest.raises(e.CostCapReached, match=rf"may cost \${3 * bound}\.0000"):
        ask(TEXTS, most_dollars=2.5 * bound, **options)
    # Then the third try is not made, and both that were made are on the account
    assert len(service.requests) == 2 and keys_kept(table) == 0
    assert costs(table) == Spent(unanswered=2 * bound)


@pytest.mark.parametrize("is_kept", [True, False], ids=["what is answered is kept", "nothing is kept"])
def test_the_tries_of_one_batch_are_under_the_cap_together_with_another_batch(
    is_kept: bool,
    service: EmbeddingService,
    table: JobTable,
    leases: Sequence[Lease],
    model: EmbeddingModel,
    ask: Ask,
) -> None:
    # Given a cap for both requests and one more, and a service of which every request may be billed
    texts = ["a red apple", "a blue plum"]
    bound = len(texts[0])
    options = {
        "asks": as_card_says(model, dollars_per_million_tokens=1e6),
        "most_dollars": 3 * bound,
        "kept": is_kept,
    }
    service.fail(Fault(drops=True, bills=True), times=99)
    with ThreadPoolExecutor() as threads:
        tries = [threads.submit(ask, [text], lease=leases[n], **options) for n, text in enumerate(texts)]
    for ended in tries:
        with pytest.raises((e.CostCapReached, e.TimedOut)):
            ended.result()
    assert len(service.requests) <= 3
    assert costs(table) == Spent(unanswered=bound * len(service.requests))


def test_a_probe_that_tells_whether_any_text_is_taken_is_under_the_cap_too(
    service: EmbeddingService, model: EmbeddingModel, ask: Ask
) -> None:
    service.fail(refusal(400, "unsupported_encoding"), times=99)
    asks = as_card_says(model, dollars_per_million_tokens=1e6)
    with pytest.raises(e.CostCapReached):
        ask(["plum"], asks=asks, most_dollars=7)  # the probe has eight bytes
    assert service.requests == [["plum"]]


def test_whatever_ends_a_request_that_was_sent_leaves_it_on_the_account(
    service: EmbeddingService, table: JobTable, model: EmbeddingModel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr("vecfleet.embedders.endpoint._read", broken)
    with pytest.raises(SystemExit):
        ask(TEXTS)
    assert len(service.requests) == 1 and costs(table).unanswered == sum(map(len, TEXTS))


def test_a_worker_that_dies_while_it_asks_leaves_a_count_of_what_may_be_billed_also_if_nothing_is_kept(
    service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    # Given a request under way whose answer nobody would keep
    with ThreadPoolExecutor() as threads:
        with service.held():
            asked = threads.submit(ask, TEXTS, kept=False)
            service.wait_for_requests(1)
            # Then a worker that was killed now would leave this in the account
            assert costs(table) == Spent(unanswered=sum(map(len, TEXTS)))
        assert asked.result().asked == 3
    # And the answer takes its place
    assert costs(table) == Spent(requests=1, texts=3, tokens=8)
    # (A request that is refused leaves nothing.)
    service.fail(refusal(401, "invalid_api_key"))
    with pytest.raises(e.KeyRefused):
        ask(TEXTS, kept=False)
    assert costs(table) == Spent(requests=1, texts=3, tokens=8)


def test_an_erasure_deletes_vectors_and_leaves_what_they_cost_on_the_account(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask
) -> None:
    # Given texts of Ana's that were paid for, and one whose request was under way when its worker died
    ask(TEXTS[:2], subjects=ANA)
    texts = wanted(model, TEXTS[2:])
    with table.begin() as connection:
        kept.reserve(connection, leases[1], texts, RESERVE_S)
        assert kept.begin_request(connection, leases[1], list(texts), RESERVE_S)
    before = costs(table)
    # When Ana is erased, then no text of hers is kept, and the bill is as long as it was
    assert forget(table, ANA) == 3
    assert keys_kept(table) == 0
    assert costs(table) == Spent(before.requests, before.texts, before.tokens, unanswered=100)
