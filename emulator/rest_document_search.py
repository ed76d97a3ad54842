"""`documents/search`: by a dense vector, a sparse one, an embedded text, or words."""

import functools
from collections.abc import Callable, Mapping, Sequence

from emulator.bodies import integer_in, object_in, strings_in
from emulator.calls import Call
from emulator.documents import fields_of, shown
from emulator.errors import Refusal, invalid
from emulator.filters import Scope, compile_filter
from emulator.fulltext import Clause, Group, best_texts, text_clause
from emulator.gate import Job, Outcome, Weather
from emulator.http import Request
from emulator.index import TOP_K_LIMIT, Index
from emulator.query_string import parse
from emulator.records import canonical_namespace, pack_floats
from emulator.scoring import Match, Wanted
from emulator.text import embed_dense, embed_sparse, words
from emulator.wire_json import encode, read_sparse

CLAUSES_PER_SEARCH = 100
QUERY_BYTES = 10 * 1024

Body = Mapping[str, object]
Find = Callable[[str, int, Body | None, float], list[Match]]  # namespace, top_k, filter, lag


def search(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    body = request.json()
    top_k, expression = integer_in(body, "top_k"), object_in(body, "filter")
    if not 1 <= top_k <= TOP_K_LIMIT:
        raise invalid(f"top_k must be between 1 and {TOP_K_LIMIT}, got {top_k}")
    if expression:
        compile_filter(expression, Scope(document=index.shape.document))
    find, tokens = _scoring(index, body.get("score_by"))
    show = shown(index, strings_in(body, "include_fields"), empty_shows_all=False)

    def run(weather: Weather) -> Outcome:
        lsn = index.seen_lsn(name, weather.lag_s)
        matches = find(name, top_k, expression, weather.lag_s)
        call.ids = [match.record.id for match in matches]
        usage = {"read_units": 1} | ({"embed_total_tokens": tokens} if tokens else {})
        answer = {
            "matches": [show.document(index, match.record, match.score) for match in matches],
            "namespace": index.aliases.resolve(name),
            "usage": usage,
        }
        return Outcome(encode(answer), indexed_lsn=lsn)

    return Job(run, functools.partial(index.drop_namespace, name))


def _scoring(index: Index, clauses: object) -> tuple[Find, int]:
    """Return the search that the clauses ask for, and the tokens embedded for it."""
    if not isinstance(clauses, list) or not all(isinstance(clause, dict) for clause in clauses):
        raise invalid("score_by must be a list of objects")
    if not 1 <= len(clauses) <= CLAUSES_PER_SEARCH:
        raise invalid(f"score_by must hold 1 to {CLAUSES_PER_SEARCH} clauses, got {len(clauses)}")
    kinds = [clause.get("type") for clause in clauses]
    if all(kind in ("text", "query_string") for kind in kinds):
        read = [_words_clause(index, clause) for clause in clauses]
        return functools.partial(_find_words, index, Group(others=tuple(dict.fromkeys(read)))), 0
    unknown = [kind for kind in kinds if kind not in _VECTORS and kind not in ("text", "query_string")]
    if unknown:
        raise invalid(f"Unknown scoring type '{str(unknown[0])[:40]}'")
    if len(clauses) > 1:
        raise invalid("Only 'text' and 'query_string' clauses can be combined; a vector clause must stand alone")
    wanted, tokens = _VECTORS[str(kinds[0])](index, clauses[0])
    return functools.partial(_find_vector, index, wanted), tokens


def _find_vector(
    index: Index, wanted: Wanted, name: str, top_k: int, expression: Body | None, lag_s: float
) -> list[Match]:
    return index.query(name, wanted, top_k, expression, lag_s)[0]


def _find_words(
    index: Index, clause: Clause, name: str, top_k: int, expression: Body | None, lag_s: float
) -> list[Match]:
    records = index.candidates(name, None, lag_s)
    allowed = {record.id for record in index.candidates(name, expression, lag_s)} if expression else None
    return best_texts(records, allowed, clause, _text_fields(index), top_k)


# -- clauses ----------------------------------------------------------------------------------------------------


def _words_clause(index: Index, clause: Body) -> Clause:
    query = _query(clause)
    if clause["type"] == "text":
        names = _fields(clause)
        for name in names:
            _check_text(index, name)
        return text_clause(query, names)
    if "field" in clause or "fields" in clause:
        raise invalid("'query_string' clauses name their fields in the query (field_name:value), not in 'fields'")
    return parse(query, _text_fields(index))


def _dense(index: Index, clause: Body) -> tuple[Wanted, int]:
    _only_field(clause, fields_of(index).dense, "dense_vector")
    values = pack_floats(clause.get("values"), "values")
    index.check_query_values(values, "Query vector")
    return Wanted(values, None), 0


def _sparse(index: Index, clause: Body) -> tuple[Wanted, int]:
    _only_field(clause, fields_of(index).sparse, "sparse_vector")
    sparse = read_sparse(clause.get("sparse_values"), "The query")
    if sparse is None:
        raise invalid("sparse_values must have at least one entry")
    return Wanted(b"", sparse), 0


def _embed(index: Index, clause: Body) -> tuple[Wanted, int]:
    _only_field(clause, fields_of(index).embed, "embed")
    query = _query(clause)
    return Wanted(embed_dense(query, index.shape.dimension or 0), None), len(words(query))


def _sparse_embed(index: Index, clause: Body) -> tuple[Wanted, int]:
    _only_field(clause, fields_of(index).sparse_embed, "sparse_embed")
    query = _query(clause)
    return Wanted(b"", embed_sparse(query)), len(words(query))


_VECTORS: Mapping[str, Callable[[Index, Body], tuple[Wanted, int]]] = {
    "dense_vector": _dense,
    "sparse_vector": _sparse,
    "embed": _embed,
    "sparse_embed": _sparse_embed,
}


def _fields(clause: Body) -> list[str]:
    """Return the fields that a clause names as `fields` or, in the older way, as `field`."""
    field = clause.get("field")
    if field is not None and clause.get("fields") is not None:
        raise invalid("A scoring clause takes 'field' or 'fields', but not both")
    names = [field] if isinstance(field, str) else strings_in(clause, "fields")
    if not names:
        raise invalid(f"A '{clause['type']}' clause must name a field")
    return names


def _only_field(clause: Body, declared: str | None, kind: str) -> None:
    names = _fields(clause)
    if len(names) > 1:
        raise invalid(f"A '{kind}' clause must name exactly one field")
    if names[0] != declared:
        raise invalid(f"Scoring field '{names[0][:80]}' not found in index schema")


def _text_fields(index: Index) -> Sequence[str]:
    return [name for name, text in fields_of(index).texts.items() if text.stored and text.whole_words]


def _check_text(index: Index, name: str) -> None:
    text = fields_of(index).texts.get(name)
    if text is None or not text.stored:
        raise invalid(f"Scoring field '{name[:80]}' not found in index schema")
    if not text.whole_words:
        raise Refusal(501, f"The emulator scores whole words only, and field '{name}' has stems or ngrams")


def _query(clause: Body) -> str:
    query = clause.get("query")
    if not isinstance(query, str) or not query.strip():
        raise invalid("query must be a text with something in it")
    if len(query.encode()) > QUERY_BYTES:
        raise invalid(f"query may have at most {QUERY_BYTES} bytes")
    return query.strip()
