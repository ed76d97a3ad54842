"""Texts turned into vectors: each distinct text is asked for once in the fleet, and kept for whoever wants it next.

Safe to run twice: what was answered is kept and costs nothing again. Dies before a request: its texts are free again
at the next attempt of its batch, or when the time is over for which they were reserved. Dies after a request, before
the answer is kept: that request is made again, and its tokens count as unanswered, because the service may have billed
them. Later: nothing is lost.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

import sqlalchemy as sa

from migrations.sealing import Seal, seal_of
from orchestrator.core.model import Job
from orchestrator.ledger import embeddings
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.ledger.embeddings import Spent, Wanted
from vecfleet.embedders.models import NOT_BILLED, Answer, EmbeddingModel, expected_tokens, no_vectors
from vecfleet.embedders.texts import Prepared, cache_key, prepare, refused, requests_of
from vecfleet.errors import (
    BadRequest,
    CostCapReached,
    NeedsOperator,
    TooLarge,
    Unreachable,
)
from vecfleet.model_cards import Purpose
from workers.calls import Calls
from workers.leases import Held, Later
from workers.pace import Limit
from workers.process import WorkerProcess

TooLong = Literal["park", "cut"]
Before = Callable[[frozenset[str]], None]

# Another batch asks for the same text just now: look again soon, and free the thread after a while.
_LOOK_AGAIN_S, _LOOKS, _COME_BACK_S = 0.25, 12, 2.0
# A text that any model takes. If it is refused like the others, the texts are not at fault.
_PROBE = "vecfleet"
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors by the positions of their texts, as a record's values are; None where the text is refused.

    `refused`: the reasons. `cut`: positions of texts that were cut or, where only a bound of the tokens is known, may
    have been. `asked`: texts asked for by this call. `tokens`: billed for them.
    """

    values: tuple[bytes | None, ...]
    refused: Mapping[int, str]
    cut: frozenset[int]
    asked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Text:
    """One distinct text. `cut`: the service may cut it."""

    text: str
    cut: bool
    wanted: Wanted


@dataclass
class _Run:
    """One call's distinct texts by their keys, and what has become of them so far."""

    purpose: Purpose
    before: Before
    texts: dict[bytes, _Text] = field(default_factory=dict)
    values: dict[bytes, bytes] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    asked: int = 0
    tokens: int = 0

    @property
    def missing(self) -> dict[bytes, Wanted]:
        return {
            key: text.wanted for key, text in self.texts.items() if key not in self.values and key not in self.refused
        }

    def subjects(self, keys: Collection[bytes]) -> frozenset[str]:
        return frozenset[str]().union(*(self.texts[key].wanted.subjects for key in keys))

    def counted(self, keys: Collection[bytes]) -> int:
        return sum(self.texts[key].wanted.tokens for key in keys)


class Embeddings:
    """The vectors of the texts of one batch. `most_dollars`: the job may be billed for no more, all batches together;
    it grows with the job's `budget_factor`. `kept`: vectors are kept for the fleet, encrypted by `seal` if there is
    one. Those of the local model never are: making them again is as quick.
    """

    def __init__(
        self,
        database: Database,
        model: EmbeddingModel,
        calls: Calls,
        reserve_s: float,
        *,
        too_long: TooLong = "park",
        most_dollars: float | None = None,
        budget_factor: float = 1.0,
        kept: bool = True,
        seal: Seal | None = None,
    ) -> None:
        self._database = database
        self._model = model
        self._card = model.card
        self._calls = calls
        self._lease = calls.held.lease
        self._reserve_s = reserve_s
        self._cut = too_long == "cut"
        self._most_dollars = most_dollars
        self._budget_factor = budget_factor
        self._kept = kept and not model.card.is_local
        self._cut_texts: set[bytes] = set()
        self._seal = seal
        self._is_sound = False  # whether the model has embedded anything for us
        scope = f"{self._card.endpoint or self._card.provider}:{self._card.model}"
        self._requests = Limit("embed", scope, self._card.requests_per_minute / _MINUTE_S)
        self._tokens = Limit("embed_tokens", scope, self._card.tokens_per_minute / _MINUTE_S)

    @property
    def cut_texts(self) -> int:
        """Return the number of distinct texts that were cut so far, or may have been, to be embedded."""
        return len(self._cut_texts)

    def require_soon(self) -> None:
        """Raise NoSlotSoon if the model would not be asked soon. Records that are read before that are read in vain."""
        if not self._card.is_local:
            self._calls.require_soon([self._requests, self._tokens])

    def kept(self, texts: Mapping[str, str], subjects: Mapping[str, frozenset[str]]) -> dict[str, bytes]:
        """Return the vectors of those texts that the fleet keeps, by the names of the texts. Asks nobody."""
        if not (self._kept and texts):
            return {}
        run = _Run("passage", lambda _subjects: None)
        forms = {name: prepare(self._model, text, cut=self._cut) for name, text in texts.items()}
        keys = {
            name: self._want(run, form, subjects[name]) for name, form in forms.items() if isinstance(form, Prepared)
        }
        vectors = self._found(run.missing)
        return {name: vectors[key] for name, key in keys.items() if key in vectors}

    def values_of(
        self, texts: Sequence[str], subjects: Sequence[frozenset[str]], before: Before, purpose: Purpose = "passage"
    ) -> Embedded:
        """Return the vectors of these texts; `subjects` are the digests of the tenants that each belongs to.

        `before` runs with the subjects of the texts right before each request. Raises Later while another batch asks
        for one of them, CostCapReached, ModelChanged, and the errors of the model after a few tries.
        """
        run, cut = _Run(purpose, before), set[int]()
        keys = list[bytes | str]()
        for position, (text, own) in enumerate(zip(texts, subjects, strict=True)):
            form = prepare(self._model, text, cut=self._cut)
            keys.append(form if isinstance(form, str) else self._want(run, form, own))
            if isinstance(form, Prepared) and form.is_cut:
                cut.add(position)
        self._find_or_ask(run)
        cut_keys = [keys[position] for position in cut]
        self._cut_texts.update(key for key in cut_keys if isinstance(key, bytes) and key in run.values)
        reasons = {n: key if isinstance(key, str) else run.refused.get(key) for n, key in enumerate(keys)}
        return Embedded(
            values=tuple(None if isinstance(key, str) else run.values.get(key) for key in keys),
            refused={position: reason for position, reason in reasons.items() if reason is not None},
            cut=frozenset(cut),
            asked=run.asked,
            tokens=run.tokens,
        )

    def _want(self, run: _Run, form: Prepared, subjects: frozenset[str]) -> bytes:
        cut = form.is_cut and not self._model.counts_exactly
        key = cache_key(self._card, run.purpose, form.text, cut=cut)
        if self._seal is not None:
            key = self._seal.hide(key)
        if key in run.texts:
            subjects |= run.texts[key].wanted.subjects
        run.texts[key] = _Text(form.text, cut, Wanted(form.tokens, subjects))
        return key

    def _find_or_ask(self, run: _Run) -> None:
        """Ask for what is neither kept nor asked for by another batch; then wait a while for what others ask for."""
        if not self._kept:
            self._ask_for(run, run.missing)
            return
        looks = 0
        while run.missing:
            if looks == _LOOKS:
                raise Later(_COME_BACK_S, f"another batch is embedding {len(run.missing):,} of its texts")
            if looks > 0:
                self._calls.held.wait(_LOOK_AGAIN_S)
            looks += 1
            run.values |= self._found(run.missing)
            self._ask_for(run, run.missing)

    def _found(self, wanted: Mapping[bytes, Wanted]) -> dict[bytes, bytes]:
        with self._database.begin() as connection:
            found = embeddings.find(connection, wanted)
        if (seal := self._seal) is None:
            return found
        return {key: seal.open(key, sealed) for key, sealed in found.items()}

    def _ask_for(self, run: _Run, missing: Mapping[bytes, Wanted]) -> None:
        for cut in (False, True):
            alike = {key: wanted.tokens for key, wanted in missing.items() if run.texts[key].cut is cut}
            for request in requests_of(self._card, alike):
                self._ask(run, request)

    def _ask(self, run: _Run, keys: Sequence[bytes]) -> None:
        """Ask for these texts, or for halves of them until it is clear which one the model refuses."""
        try:
            if self._kept:
                self._reserve_and_answer(run, keys)
            elif self._card.is_local:
                self._answer(run, keys)
            else:
                with self._counted_ahead(run.counted(keys)):
                    self._answer(run, keys)
        except (BadRequest, TooLarge) as error:
            if len(keys) > 1:
                middle = len(keys) // 2
                self._ask(run, keys[:middle])
                self._ask(run, keys[middle:])
                return
            self._require_sound(run, f"{self._card.name} refuses every text: {error.message}")
            run.refused[keys[0]] = refused(self._card)

    def _reserve_and_answer(self, run: _Run, keys: Sequence[bytes]) -> None:
        with self._database.begin() as connection:
            reserved = embeddings.reserve(
                connection, self._lease, {key: run.texts[key].wanted for key in keys}, self._reserve_s
            )
            if reserved:
                self._require_dollars_in(connection, 0)
        if not reserved:
            return
        try:
            self._answer(run, [key for key in keys if key in reserved])
        except Unreachable:  # nobody knows what is on record: the reservation keeps the cost of a request that was sent
            raise
        except BaseException:
            self._release(reserved)
            raise

    def _release(self, keys: Collection[bytes]) -> None:
        with self._database.begin() as connection:
            embeddings.release(connection, self._lease, keys)

    def _answer(self, run: _Run, keys: Sequence[bytes]) -> None:
        """Make one request, and keep its answer. Texts of which it gives no vector are refused."""
        tokens = run.counted(keys)

        def before() -> None:
            run.before(run.subjects(keys))
            if self._kept:
                with self._database.begin() as connection:
                    if not embeddings.begin_request(connection, self._lease, keys, self._reserve_s):
                        raise Later(_COME_BACK_S, "another batch has taken over its texts")

        answer = self._request(run, [run.texts[key].text for key in keys], tokens, before, cut=run.texts[keys[0]].cut)
        useless = {keys[position]: reason for position, reason in no_vectors(self._card, answer.vectors).items()}
        answered = zip(keys, answer.vectors, strict=True)
        vectors = {key: row.astype("<f4").tobytes() for key, row in answered if key not in useless}
        self._keep(vectors, useless, answer.tokens)
        self._is_sound = self._is_sound or bool(vectors)
        if useless:
            self._require_sound(run, f"{self._card.name} gives no text a vector: it is all zeros, or no numbers")
        run.values |= vectors
        run.refused |= useless
        run.asked += len(keys)
        run.tokens += answer.tokens

    def _request(
        self, run: _Run, texts: Sequence[str], tokens: int, before: Callable[[], None], *, cut: bool = False
    ) -> Answer:
        """Ask, and ask again while the service cannot answer: each time under the cap, with what earlier tries cost."""

        def ask() -> Answer:
            try:
                return self._model.request(texts, run.purpose, cut=cut)
            except NOT_BILLED:
                raise
            except BaseException:
                self._count(Spent(unanswered=tokens))
                raise

        def in_budget() -> None:
            before()
            if self._most_dollars is not None:
                with self._database.begin() as connection:
                    self._require_dollars_in(connection, 0)

        if self._card.is_local:
            before()
            return ask()
        limits = [(self._requests, 1.0), (self._tokens, float(expected_tokens(self._model, tokens)))]
        return self._calls.make(limits, ask, in_budget)

    def _keep(self, vectors: Mapping[bytes, bytes], useless: Collection[bytes], tokens: int) -> None:
        """Keep vectors, free the texts whose vectors are of no use, and count what all of them cost."""
        spent = Spent(requests=1, texts=len(vectors) + len(useless), tokens=tokens)
        if self._kept:
            if (seal := self._seal) is not None:
                vectors = {key: seal.close(key, vector) for key, vector in vectors.items()}
            try:
                with self._database.begin() as connection:
                    embeddings.keep(connection, self._lease, vectors)
                    embeddings.release(connection, self._lease, useless)
                    embeddings.count(connection, self._lease.job_id, spent)
                    return
            except LeaseLost:
                self._count(spent)
                raise
        self._count(spent)

    def _count(self, spent: Spent) -> None:
        with self._database.once() as connection:
            embeddings.count(connection, self._lease.job_id, spent)

    @contextmanager
    def _counted_ahead(self, tokens: int) -> Iterator[None]:
        """Count a request as unanswered before it is made: nothing reserves its texts. Raises CostCapReached.

        So other batches see it under the cap, and it stays in the account if this worker dies.
        """
        with self._database.begin() as connection:
            self._require_dollars_in(connection, tokens)
            embeddings.count(connection, self._lease.job_id, Spent(unanswered=tokens))
        try:
            yield
        finally:
            self._count(Spent(unanswered=-tokens))

    def _require_sound(self, run: _Run, why: str) -> None:
        """Raise NeedsOperator with this reason if the model embeds no text at all: then no text is at fault."""
        if self._is_sound:
            return
        next_step = "check that the service still takes what the plan was made with, then resume"
        tokens = self._model.count_tokens(_PROBE)
        try:
            with self._counted_ahead(tokens):
                answer = self._request(run, [_PROBE], tokens, lambda: None)
                self._count(Spent(requests=1, tokens=answer.tokens))
        except (BadRequest, TooLarge) as error:
            raise NeedsOperator(why, next_step=next_step) from error
        if no_vectors(self._card, answer.vectors):
            raise NeedsOperator(why, next_step=next_step)
        self._is_sound = True

    def _require_dollars_in(self, connection: sa.Connection, tokens: int) -> None:
        """Raise CostCapReached if so many tokens more could cost more than the job may."""
        if self._most_dollars is None:
            return
        billed = self._card.dollars(embeddings.billed_at_most(connection, self._lease.job_id) + tokens)
        if billed > self._most_dollars:
            job, times = self._lease.job_id, max(2, ceil(billed / self._most_dollars))
            raise CostCapReached(
                f"with its next texts, embedding may cost ${billed:,.4f}; the job may spend ${self._most_dollars:,.4f}",
                next_step=f"`vecfleet set {job} budget {times * self._budget_factor:g}` allows "
                f"${times * self._most_dollars:,.4f}; then `vecfleet resume {job}`",
            )


def embeddings_of(process: WorkerProcess, held: Held, job: Job) -> Embeddings | None:
    """Return the embeddings of a batch; None if its plan embeds nothing.

    The plan's cap on the cost is raised or lowered with the job's budget.
    """
    plan, settings = job.plan, process.settings
    asked = plan.policies.embedding
    if asked is None:
        return None
    most = None if asked.dollars_cap is None else asked.dollars_cap * job.budget_factor / plan.policies.budget_factor
    return Embeddings(
        process.database,
        process.model(asked.card),
        Calls(process.pace, process.counters, job.pace_share, held, settings.request_deadline_seconds),
        settings.lease_seconds,
        too_long=asked.too_long,
        most_dollars=most,
        budget_factor=job.budget_factor,
        kept=asked.cache and settings.embedding_cache_bytes > 0,
        seal=None if asked.cache_key is None else seal_of(settings, asked.cache_key),
    )
