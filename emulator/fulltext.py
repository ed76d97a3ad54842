"""Full-text scores: BM25 over the whole words of text fields, of every document of a namespace."""

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.records import Record
from emulator.scoring import Match
from emulator.text import count_phrase, words

K1, B = 1.2, 0.75

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Corpus:
    """The words of the documents that are searched, field by field."""

    def __init__(self, records: Sequence[Record], fields: Iterable[str]) -> None:
        stored = [record.fields() for record in records]
        self.count = len(records)
        self._words = {name: [words(str(item.get(name, ""))) for item in stored] for name in fields}
        self._lengths = {name: np.array([len(text) for text in texts]) for name, texts in self._words.items()}

    def bm25(self, name: str, phrase: Sequence[str]) -> Scores:
        """Score a word, or words side by side, in one field; 0 where they are not."""
        wanted, texts, lengths = list(phrase), self._words[name], self._lengths[name]
        often = np.array([count_phrase(text, wanted) for text in texts], "<f8")
        holders, documents = int((often > 0).sum()), int((lengths > 0).sum())
        rarity = np.log(1 + (documents - holders + 0.5) / (holders + 0.5))
        mean = lengths.sum() / max(1, documents) or 1.0
        return np.asarray(rarity * often * (K1 + 1) / (often + K1 * (1 - B + B * lengths / mean)))


class Clause(Protocol):
    """A part of a query; a document has a score for it where it matches."""

    def look(self, corpus: Corpus) -> tuple[Mask, Scores]: ...


class Phrase(NamedTuple):
    """One word, or several side by side, in any of some fields: the scores of the fields add up."""

    fields: tuple[str, ...]
    words: tuple[str, ...]
    boost: float = 1.0

    def look(self, corpus: Corpus) -> tuple[Mask, Scores]:
        scores = np.zeros(corpus.count)
        for name in self.fields:
            scores += corpus.bm25(name, self.words)
        return scores > 0, scores * self.boost


class Group(NamedTuple):
    """Clauses that must match, that must not, and others, of which one must match where no clause must."""

    must: tuple["Clause", ...] = ()
    others: tuple["Clause", ...] = ()
    never: tuple["Clause", ...] = ()

    def look(self, corpus: Corpus) -> tuple[Mask, Scores]:
        mask = np.ones(corpus.count, bool) if self.must else np.zeros(corpus.count, bool)
        scores = np.zeros(corpus.count)
        for clause in self.must:
            holds, score = clause.look(corpus)
            mask, scores = mask & holds, scores + score
        for clause in self.others:
            holds, score = clause.look(corpus)
            mask, scores = mask if self.must else mask | holds, scores + np.where(holds, score, 0)
        for clause in self.never:
            mask = mask & ~clause.look(corpus)[0]
        return mask, np.where(mask, scores, 0)


def text_clause(query: str, fields: Sequence[str]) -> Group:
    """Return a query's words, each wanted in any of the fields; a word or a field named twice counts once."""
    names = tuple(dict.fromkeys(fields))
    return Group(others=tuple(Phrase(names, (word,)) for word in dict.fromkeys(words(query))))


def best_texts(
    records: Sequence[Record], allowed: Container[str] | None, clause: Clause, fields: Iterable[str], top_k: int
) -> list[Match]:
    """Return the best of the allowed documents (None: all); every document counts for how rare a word is."""
    mask, scores = clause.look(Corpus(records, fields))
    matching = [(float(scores[place]), records[place]) for place in np.flatnonzero(mask).tolist()]
    hits = [hit for hit in matching if allowed is None or hit[1].id in allowed]
    hits.sort(key=lambda hit: (-hit[0], hit[1].id))
    return [Match(record, score) for score, record in hits[:top_k]]
