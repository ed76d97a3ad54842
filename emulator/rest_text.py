"""Records as text, for indexes with integrated embedding: upsert and search, over REST only as in the service."""

import functools
from collections.abc import Mapping, Sequence

from emulator.bodies import object_of_line
from emulator.calls import Call
from emulator.errors import invalid
from emulator.gate import Job, Outcome, Weather
from emulator.http import Request
from emulator.index import Index
from emulator.records import Record, canonical_namespace, check_id, pack_floats, sparse_of
from emulator.scoring import Match, Wanted
from emulator.text import RERANKERS, embed_dense, embed_sparse, relevance, words
from emulator.wire_json import encode

RECORDS_PER_REQUEST = 96


def upsert_records(index: Index, request: Request, call: Call) -> Job:
    """Upsert records from one JSON object a line."""
    call.namespace = name = canonical_namespace(request.segments[2])
    lines = [line for line in request.body.split(b"\n") if line.strip()]
    if not 1 <= len(lines) <= RECORDS_PER_REQUEST:
        raise invalid(f"An upsert of text must hold 1 to {RECORDS_PER_REQUEST} records, got {len(lines)}")
    records = [_read(index, line) for line in lines]
    call.ids = [record.id for record in records]

    def run(weather: Weather) -> Outcome:
        return Outcome(b"", 201, written_lsn=index.upsert(name, weather.share(records)))

    return Job(run, functools.partial(index.drop_namespace, name))


def _read(index: Index, line: bytes) -> Record:
    fields = object_of_line(line)
    id = check_id(fields.pop("_id", None) or fields.pop("id", None), "Record ID")
    text = fields.get(_text_field(index))
    if not isinstance(text, str):
        raise invalid(f"Record {id} must have the text field '{index.shape.text_field}'")
    wanted = _embed(index, text)
    return index.check_record(id, wanted.values, wanted.sparse, fields)


def _text_field(index: Index) -> str:
    if index.shape.text_field is None:
        raise invalid("Integrated inference is not configured for this index")
    return index.shape.text_field


def _embed(index: Index, text: str) -> Wanted:
    if index.shape.dimension is None:
        return Wanted(b"", embed_sparse(text))
    return Wanted(embed_dense(text, index.shape.dimension), None)


def search_records(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[2])
    body = request.json()
    query, rerank, fields = body.get("query"), body.get("rerank"), body.get("fields")
    if not isinstance(query, dict) or type(query.get("top_k")) is not int:
        raise invalid("query must be an object with an integer top_k")
    if fields is not None and not (isinstance(fields, list) and all(isinstance(item, str) for item in fields)):
        raise invalid("fields must be a list of strings")
    expression = query.get("filter")
    if expression is not None and not isinstance(expression, dict):
        raise invalid("filter must be an object")
    wanted, text = _wanted(index, query)
    terms = _terms(query)
    ranking = None if rerank is None else _Reranking(rerank, text)

    def run(weather: Weather) -> Outcome:
        matches, lsn = index.query(name, wanted, query["top_k"], expression, weather.lag_s)
        matches = (
            [match for match in matches if terms <= set(words(_text(match, [_text_field(index)])))]
            if terms
            else matches
        )
        usage = {"read_units": 1, "embed_total_tokens": len(words(text))}
        if ranking:
            matches = ranking.apply(matches)
            usage["rerank_units"] = 1
        call.ids = [match.record.id for match in matches]
        hits = [_hit(match, fields) for match in matches]
        return Outcome(encode({"result": {"hits": hits}, "usage": usage}), indexed_lsn=lsn)

    return Job(run, functools.partial(index.drop_namespace, name))


def _wanted(index: Index, query: Mapping[str, object]) -> tuple[Wanted | str, str]:
    """Return the goal of the search, and the query's text if it has one."""
    inputs, vector, id = query.get("inputs"), query.get("vector"), query.get("id")
    if isinstance(id, str) and id:
        return check_id(id), ""
    if isinstance(inputs, dict) and isinstance(inputs.get("text"), str):
        _text_field(index)
        return _embed(index, inputs["text"]), inputs["text"]
    if isinstance(vector, dict):
        values = pack_floats(vector.get("values") or [], "vector.values")
        weights = pack_floats(vector.get("sparse_values") or [], "vector.sparse_values")
        sparse = sparse_of(vector.get("sparse_indices") or [], weights, "The query")
        return index.check_wanted(None, values, sparse), ""
    raise invalid("query must have inputs with a text, a vector, or an id")


def _terms(query: Mapping[str, object]) -> set[str]:
    """Return the words that every hit must have (`match_terms`, strategy `all`)."""
    match_terms = query.get("match_terms")
    terms = match_terms.get("terms", []) if isinstance(match_terms, dict) else []
    return {word for term in terms for word in words(str(term))}


def _text(match: Match, fields: Sequence[str]) -> str:
    stored = match.record.fields()
    return " ".join(str(stored[name]) for name in fields if name in stored)


def _hit(match: Match, fields: Sequence[str] | None) -> dict[str, object]:
    stored = match.record.fields()
    kept = stored if fields is None else {name: stored[name] for name in fields if name in stored}
    return {"_id": match.record.id, "_score": match.score, "fields": kept}


class _Reranking:
    """A second opinion on the order, by the words of the chosen fields."""

    def __init__(self, options: object, text: str) -> None:
        if not isinstance(options, dict) or options.get("model") not in RERANKERS:
            raise invalid(f"rerank must name a model, one of {', '.join(RERANKERS)}")
        fields = options.get("rank_fields")
        if not isinstance(fields, list) or not fields:
            raise invalid("rerank must name its rank_fields")
        self._fields = [str(name) for name in fields]
        self._query = options.get("query") or text
        self._top_n = options.get("top_n")
        if not isinstance(self._query, str) or not self._query:
            raise invalid("rerank needs a query when the search has no text")
        if self._top_n is not None and (type(self._top_n) is not int or self._top_n < 1):
            raise invalid("rerank's top_n must be a positive integer")

    def apply(self, matches: Sequence[Match]) -> list[Match]:
        scored = [Match(match.record, relevance(self._query, _text(match, self._fields))) for match in matches]
        return sorted(scored, key=lambda match: (-match.score, match.record.id))[: self._top_n]
