"""Texts embedded by the fleet: each distinct one is billed once, whatever fails, and what cannot be is said."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from embedding_service import KEY, EmbeddingService, Fault, refusal, rows
from job_table import JobTable
from kept_embeddings import (
    ANA,
    BEN,
    NAME,
    RESERVE_S,
    REVISION,
    TEXTS,
    Ask,
    as_card_says,
    costs,
    expected,
    forget,
    keys_kept,
    next_attempt,
    use,
    wanted,
)

from orchestrator.core.model import Lease
from orchestrator.ledger import embeddings as kept
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.embeddings import Spent
from orchestrator.pace_view import PaceReader
from vecfleet import errors as e
from vecfleet.embedders import LOCAL_MODEL
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.settings import Settings
from workers.embedding import Embeddings
from workers.leases import Later
from workers.pace import NoSlotSoon


def test_each_distinct_text_is_billed_once_and_the_next_batch_pays_nothing(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], ask: Ask
) -> None:
    # Given texts of which two say the same
    first = ask([*TEXTS, " a red apple\r\n"])
    assert first.values == expected(service, [*TEXTS, TEXTS[0]])
    assert (first.asked, first.tokens, first.refused) == (3, 8, {})
    # When another batch and a repetition want them, then they get the same bytes, and each text was billed once
    again, other = ask(TEXTS), ask(TEXTS[::-1], lease=leases[1])
    assert again.values == first.values[:3] and other.values == again.values[::-1]
    assert (again.asked, other.tokens) == (0, 0)
    assert service.billed == dict.fromkeys(TEXTS, 1)
    assert costs(table) == Spent(requests=1, texts=3, tokens=8)


def test_two_batches_that_want_a_text_at_once_pay_for_it_once(
    service: EmbeddingService, leases: Sequence[Lease], ask: Ask
) -> None:
    with ThreadPoolExecutor() as threads:
        with service.held():
            # Given a batch whose request is under way
            one = threads.submit(ask, TEXTS[:2], lease=leases[0])
            service.wait_for_requests(1)
            # When another batch wants one of its texts besides one of its own
            two = threads.submit(ask, TEXTS[1:], lease=leases[1])
            service.wait_for_requests(2)
        # Then it asks for its own alone, and has both in the end
        assert one.result().values == expected(service, TEXTS[:2])
        assert two.result().values == expected(service, TEXTS[1:])
    assert service.requests == [TEXTS[:2], TEXTS[2:]]
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_a_batch_that_waits_for_anothers_request_frees_its_thread(
    table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.embedding._LOOKS", 2)
    with table.begin() as connection:
        kept.reserve(connection, leases[1], wanted(model, TEXTS), RESERVE_S)
    with pytest.raises(Later, match="another batch is embedding 3 of its texts"):
        ask(TEXTS, lease=leases[0])


def test_a_worker_that_dies_before_its_request_costs_nothing(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask
) -> None:
    # Given a worker that reserved texts and was killed
    with table.begin() as connection:
        assert len(kept.reserve(connection, leases[0], wanted(model, TEXTS), RESERVE_S)) == 3
    # When another worker leases its batch, then it asks at once, though they are reserved for longer
    assert ask(TEXTS, lease=next_attempt(table, leases[0])).asked == 3
    assert service.billed == dict.fromkeys(TEXTS, 1)
    assert costs(table).unanswered == 0


def test_the_texts_of_a_dead_worker_go_to_another_batch_once_they_are_reserved_no_longer(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask
) -> None:
    with table.begin() as connection:
        kept.reserve(connection, leases[0], wanted(model, TEXTS), 0.3)
    assert ask(TEXTS, lease=leases[1]).asked == 3
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_a_worker_that_dies_before_its_answer_is_kept_leaves_a_count_of_what_may_be_billed(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, ask: Ask
) -> None:
    # Given a worker that was killed while its request was under way
    texts = wanted(model, TEXTS)
    with table.begin() as connection:
        kept.reserve(connection, leases[0], texts, RESERVE_S)
        assert kept.begin_request(connection, leases[0], list(texts), RESERVE_S)
    # When the batch is worked on again, then that request is made again and the earlier one stays in the account
    assert ask(TEXTS, lease=next_attempt(table, leases[0])).asked == 3
    assert costs(table) == Spent(requests=1, texts=3, tokens=8, unanswered=300)


def test_an_answer_that_could_not_be_kept_is_in_the_account_and_is_asked_for_again(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = sa.text("SELECT pg_terminate_backend(pg_backend_pid())")
    with monkeypatch.context() as patch, pytest.raises(e.Unreachable):
        patch.setattr(kept, "keep", lambda connection, *_: connection.execute(ends))
        ask(TEXTS)
    # When the batch is worked on again, then that request is made again and the earlier one stays in the account
    assert ask(TEXTS, lease=next_attempt(table, leases[0])).asked == 3
    assert service.billed == dict.fromkeys(TEXTS, 2)
    assert costs(table) == Spent(requests=1, texts=3, tokens=8, unanswered=sum(map(len, TEXTS)))


def test_a_worker_that_dies_after_its_answer_is_kept_costs_nothing(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], ask: Ask
) -> None:
    ask(TEXTS)  # and its batch is never recorded
    assert ask(TEXTS, lease=next_attempt(table, leases[0])).asked == 0
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_an_attempt_whose_texts_were_taken_over_asks_for_nothing(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], ask: Ask
) -> None:
    # Given a worker that freezes right before its request, until another has worked on its batch
    def freeze(subjects: frozenset[str]) -> None:
        if not service.requests:
            assert ask(TEXTS, lease=next_attempt(table, leases[0])).asked == 3

    # When it wakes up, then it does not make its request
    with pytest.raises(Later, match="taken over"):
        ask(TEXTS, lease=leases[0], before=freeze)
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_an_answer_after_the_lease_is_over_is_not_kept_but_counted(
    service: EmbeddingService, table: JobTable, leases: Sequence[Lease], ask: Ask
) -> None:
    with ThreadPoolExecutor() as threads:
        with service.held():
            late = threads.submit(ask, TEXTS, lease=leases[0])
            service.wait_for_requests(1)
            table.expire(leases[0])
            table.reap()
        with pytest.raises(LeaseLost):
            late.result()
    assert keys_kept(table) == 0
    assert costs(table) == Spent(requests=1, texts=3, tokens=8)


# What is refused


def test_texts_that_cannot_be_embedded_are_named_and_hold_nothing_else_up(service: EmbeddingService, ask: Ask) -> None:
    service.most_tokens = 3
    texts = ["", *TEXTS, "far too many words for it", "half \ud800"]
    answer = ask(texts)
    assert answer.refused == {
        0: "its text is empty",
        4: f"its text is refused by {NAME}",
        5: "its text holds half a character, which cannot be sent",
    }
    assert answer.values == (None, *expected(service, TEXTS), None, None)
    assert service.billed == dict.fromkeys(TEXTS, 1)


@pytest.mark.parametrize("fault", [refusal(400, "unsupported_encoding"), refusal(413, "request_too_large")])
def test_a_model_that_refuses_every_text_stops_the_job_and_blames_no_text(
    fault: Fault, service: EmbeddingService, ask: Ask
) -> None:
    service.fail(fault, times=99)
    with pytest.raises(e.NeedsOperator, match=r"refuses every text: .* (unsupported_encoding|request_too_large)"):
        ask(TEXTS)
    assert service.requests[-1] == ["vecfleet"]


@pytest.mark.parametrize(
    "numbers",
    [[0, 0, 2], [0, 1, 3], [1, 2, 3], [-1, 0, 1], [0, True, 2], [0, 1.0, 2], ["0", "1", "2"]],
    ids=["twice", "a gap", "from one", "below zero", "a truth", "a fraction", "words"],
)
def test_vectors_that_are_not_numbered_as_their_texts_are_given_to_no_text(
    numbers: Sequence[object], service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    # Given an answer of which nobody can tell which vector is of which text
    service.fail(Fault(body=rows(*map(service.vector, TEXTS), model=REVISION, numbers=numbers), bills=True), times=4)
    with pytest.raises(e.UnusableAnswer, match="does not number its vectors as the texts were asked"):
        ask(TEXTS)
    # Then nothing of it is kept, it is on the account, and once the service is well each text has its own
    assert keys_kept(table) == 0 and costs(table).unanswered == 4 * sum(map(len, TEXTS))
    assert ask(TEXTS).values == expected(service, TEXTS)


NO_VECTORS = {
    "all its values are zero": [0.0] * 8,
    "a value is no number": [None] + [0.5] * 7,
    "a value is infinite": [1e39] + [0.5] * 7,
}


@pytest.mark.parametrize("is_kept", [True, False], ids=["what is answered is kept", "nothing is kept"])
@pytest.mark.parametrize("vector", NO_VECTORS.values(), ids=NO_VECTORS)
def test_a_text_of_which_a_model_gives_no_vector_is_named_and_holds_no_other_up(
    vector: Sequence[float | None], is_kept: bool, service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    one, two = service.vector(TEXTS[0]), service.vector(TEXTS[2])
    service.fail(Fault(body=rows(one, vector, two, model=REVISION), bills=True))
    answer = ask(TEXTS, kept=is_kept)
    (reason,) = answer.refused.values()
    assert reason.startswith(f"{NAME} gave a vector for its text that ")
    assert answer.values == (*expected(service, TEXTS[:1]), None, *expected(service, TEXTS[2:]))
    # Then it was billed like the others, and is asked for again by whoever wants it next
    assert service.billed == dict.fromkeys(TEXTS, 1) and costs(table).requests == 1
    assert keys_kept(table) == 2 * is_kept
    assert ask(TEXTS, kept=is_kept).refused == {}


def test_a_model_that_gives_a_vector_of_zeros_for_every_text_stops_the_job_and_blames_no_text(
    service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    service.fail(Fault(body=rows(*[[0.0] * 8] * 3, model=REVISION), bills=True))
    service.fail(Fault(body=rows([0.0] * 8, model=REVISION), bills=True))
    with pytest.raises(e.NeedsOperator, match="gives no text a vector"):
        ask(TEXTS)
    assert service.requests[-1] == ["vecfleet"] and keys_kept(table) == 0
    assert costs(table).requests == 2


def test_a_request_that_is_too_large_is_halved(service: EmbeddingService, ask: Ask) -> None:
    service.fail(Fault(413))
    assert ask(TEXTS).values == expected(service, TEXTS)
    assert list(map(len, service.requests)) == [3, 1, 2]


def test_a_text_that_the_model_cuts_is_counted_where_the_plan_says_so(model: EmbeddingModel, ask: Ask) -> None:
    card = look_up(LOCAL_MODEL, Settings()).model_copy(update={"max_tokens": 4})
    short = open_model(card, Settings())
    texts = ["one two", "one two three four five six"]
    assert list(ask(texts, asks=short).refused) == [1]
    cut = ask(texts, asks=short, too_long="cut")
    assert cut.cut == {1} and cut.refused == {}
    assert cut.values[1] == ask([short.cut(texts[1])], asks=short).values[0]


# What fails and passes


def test_a_429_slows_the_whole_fleet_at_this_model_and_is_waited_out(
    service: EmbeddingService, model: EmbeddingModel, ask: Ask, redis_url: str
) -> None:
    service.fail(Fault(429, {"retry-after-ms": "20"}))
    assert ask(TEXTS).asked == 3
    seen = PaceReader(redis_url).every()
    assert seen is not None
    limits = {limit.name: limit for limit in seen if limit.scope == f"{model.card.endpoint}:a-model"}
    assert set(limits) == {"embed", "embed_tokens"}
    assert sum(limit.refused for limit in limits.values()) == 1


def test_two_paths_of_one_host_have_a_pace_each(
    service: EmbeddingService, model: EmbeddingModel, embeddings_of: Callable[..., Embeddings], redis_url: str
) -> None:
    # Given a gateway that leads to two services
    service.prefixes = ["/a", "/b"]
    host = service.url.removesuffix("/v1")
    for path in "ab":
        settings = Settings(openai_api_key=KEY, openai_base_url=f"{host}/{path}/v1")  # type: ignore[arg-type]
        asked = open_model(look_up(NAME, settings), settings)
        embeddings_of(asks=asked).values_of(TEXTS, [ANA] * 3, lambda subjects: None)
    # Then each has its own limits, and each was asked for the vectors of its own
    seen = PaceReader(redis_url).every()
    assert seen is not None
    scopes = {limit.scope for limit in seen if limit.name == "embed"}
    assert scopes == {f"{host.removeprefix('http://')}/{path}/v1:a-model" for path in "ab"}
    assert service.billed == {"vecfleet": 2} | dict.fromkeys(TEXTS, 2)


def test_a_batch_that_would_wait_long_for_the_model_learns_so_before_it_reads_its_records(
    model: EmbeddingModel, ask: Ask, embeddings_of: Callable[..., Embeddings]
) -> None:
    embeddings_of().require_soon()
    slow = as_card_says(model, tokens_per_minute=60.0)
    ask(["a text that takes minutes " * 20], asks=slow)
    with pytest.raises(NoSlotSoon):
        embeddings_of(asks=slow).require_soon()


@pytest.mark.parametrize(
    ("fault", "error", "unanswered"),
    [
        (Fault(429), e.RateLimited, 0),
        (Fault(503), e.Unavailable, 0),
        (Fault(drops=True, bills=True), e.TimedOut, 4),
        (Fault(body=rows([0.5] * 8, model=REVISION), bills=True), e.UnusableAnswer, 4),
        (Fault(body=rows([float("nan")] * 8, model=REVISION), bills=True), e.UnusableAnswer, 4),
    ],
    ids=["rate-limited", "down", "broken off", "too few vectors", "a NaN, which is no JSON"],
)
def test_a_model_that_stays_so_is_given_up_after_four_tries_and_its_texts_are_free_again(
    fault: Fault, error: type[e.StoreError], unanswered: int, service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    service.fail(fault, times=4)
    with pytest.raises(error):
        ask(TEXTS)
    assert len(service.requests) == 4 and keys_kept(table) == 0
    # Then what may have been billed is counted, and the next try has it all
    assert costs(table).unanswered == unanswered * sum(len(text) for text in TEXTS)
    assert ask(TEXTS).asked == 3


def test_another_revision_in_the_middle_of_a_job_is_refused_and_nothing_of_it_is_kept(
    service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    ask(TEXTS[:1])
    service.revision = "a-model-2027"
    with pytest.raises(e.ModelChanged, match="answers as 'a-model-2027' now; the plan was made with 'a-model-2026'"):
        ask(TEXTS)
    assert keys_kept(table) == 1
    service.revision = REVISION
    assert ask(TEXTS).values == expected(service, TEXTS)


# What is kept


def test_nothing_is_kept_if_the_plan_says_so_and_each_attempt_pays(
    service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    assert ask([*TEXTS, TEXTS[0]], kept=False).values == expected(service, [*TEXTS, TEXTS[0]])
    ask(TEXTS, kept=False)
    assert service.billed == dict.fromkeys(TEXTS, 2)
    assert keys_kept(table) == 0 and costs(table) == Spent(requests=2, texts=6, tokens=16)


def test_vectors_of_the_local_model_are_not_kept(table: JobTable, ask: Ask) -> None:
    here = open_model(look_up(LOCAL_MODEL, Settings()), Settings())
    answer = ask([*TEXTS, TEXTS[0]], asks=here)
    assert answer.values[0] == answer.values[3] and len(answer.values[0] or b"") == 256 * 4
    assert keys_kept(table) == 0 and costs(table).tokens == 0


def test_the_fence_is_asked_with_whose_texts_leave_and_stops_the_request(
    service: EmbeddingService, table: JobTable, ask: Ask
) -> None:
    ask(TEXTS[:1], subjects=ANA)
    asked = list[frozenset[str]]()

    def refuse(subjects: frozenset[str]) -> None:
        asked.append(subjects)
        raise LeaseLost

    ask(TEXTS[:1], subjects=ANA, before=refuse)  # what is kept does not leave
    with pytest.raises(LeaseLost):
        ask(TEXTS, subjects=BEN, before=refuse)
    assert asked == [BEN] and len(service.requests) == 1
    assert keys_kept(table) == 1


def test_an_erased_tenants_texts_are_forgotten_those_it_shares_included(table: JobTable, ask: Ask) -> None:
    # Given a text of Ana's, one of Ben's, and one of both
    ask([TEXTS[0], TEXTS[1]], subjects=ANA)
    ask([TEXTS[1], TEXTS[2]], subjects=BEN)
    # When Ben is erased, then nothing is kept of what he had
    assert forget(table, BEN) == 2
    assert ask(TEXTS, subjects=ANA).asked == 2
    # And when Ana is, nothing is left
    assert forget(table, ANA) == 3
    assert keys_kept(table) == 0


def test_what_was_not_used_for_longest_goes_when_too_much_is_kept(
    service: EmbeddingService, table: JobTable, model: EmbeddingModel, ask: Ask
) -> None:
    ask(TEXTS)
    for days_ago, text in enumerate(TEXTS, start=1):
        use(table, model, text, days_ago)
    ask(TEXTS[2:])  # the oldest is used again
    with table.begin() as connection:
        assert kept.trim(connection, 2 * 8 * 4) == 1
        assert kept.trim(connection, 2 * 8 * 4) == 0
    ask(TEXTS)
    assert service.billed == {TEXTS[0]: 1, TEXTS[1]: 2, TEXTS[2]: 1}
