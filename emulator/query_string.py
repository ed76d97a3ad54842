"""Query strings in the manner of Lucene: words, "phrases", field:word, groups, AND OR NOT + - and boosts (^2).

Wildcards, ranges and distances are refused: the emulator scores whole words only.
"""

import re
from collections.abc import Collection

from emulator.errors import Refusal, invalid
from emulator.fulltext import Clause, Group, Phrase
from emulator.text import words

_TOKEN = re.compile(
    r'\s*(?:(?P<field>[^\s()":^+~*?-][^\s()":^]*):|"(?P<phrase>[^"]*)"|\^(?P<boost>\d+(?:\.\d+)?)|(?P<sign>[()+-])'
    r'|(?P<word>[^\s()":^]+))'
)
_NOT_SERVED = re.compile(r"[*?~\[\]{}/\\]")
MAX_DEPTH = 50  # our own limit, to protect the interpreter's stack

Token = tuple[str, str]  # its kind and its text


def parse(query: str, fields: Collection[str]) -> Clause:
    """Return a query's clause; a word without a field is wanted in any of `fields`."""
    tokens = _tokens(query)
    clause = _group(tokens, tuple(fields), frozenset(fields), 0)
    if tokens:
        raise invalid("The query string has a ')' without its '('")
    return clause


def _tokens(query: str) -> list[Token]:
    """Return the tokens, the first one last."""
    tokens: list[Token] = []
    place, end = 0, len(query.rstrip())
    while place < end:
        match = _TOKEN.match(query, place)
        if match is None:
            raise invalid(f"The query string cannot be read from '{query[place : place + 40]}'")
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind]))
        place = match.end()
    return tokens[::-1]


def _group(tokens: list[Token], fields: tuple[str, ...], known: frozenset[str], depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise invalid(f"The query string is nested more than {MAX_DEPTH} levels deep")
    parts: list[tuple[str, Clause]] = []
    mark = "others"
    while tokens and tokens[-1] != ("sign", ")"):
        kind, text = tokens.pop()
        if (kind, text) == ("word", "AND"):
            parts[-1:] = [("must" if held == "others" else held, clause) for held, clause in parts[-1:]]
            mark = "must"
        elif (kind, text) == ("word", "OR"):
            mark = "others"
        elif (kind, text) in (("word", "NOT"), ("sign", "-")):
            mark = "never"
        elif (kind, text) == ("sign", "+"):
            mark = "must"
        else:
            clause = _clause((kind, text), tokens, fields, known, depth)
            if clause is not None:
                parts.append((mark, clause))
            mark = "others"
    chosen = {place: tuple(dict.fromkeys(c for m, c in parts if m == place)) for place in ("must", "others", "never")}
    return Group(**chosen)


def _clause(
    token: Token, tokens: list[Token], fields: tuple[str, ...], known: frozenset[str], depth: int
) -> Clause | None:
    """Return one word, phrase or group with its boost; None for a text without words."""
    kind, text = token
    if kind == "field":
        if text not in known:
            raise invalid(f"Scoring field '{text[:80]}' not found in index schema")
        if not tokens:
            raise invalid(f"The query string says nothing after '{text}:'")
        return _clause(tokens.pop(), tokens, (text,), known, depth)
    clause: Clause
    if token == ("sign", "("):
        clause = _group(tokens, fields, known, depth + 1)
        if not tokens:
            raise invalid("The query string has a '(' without its ')'")
        tokens.pop()
    elif kind in ("word", "phrase"):
        if kind == "word" and _NOT_SERVED.search(text):
            raise Refusal(501, f"The emulator scores whole words only, not '{text[:80]}'")
        clause = Phrase(fields, tuple(words(text)))
        if not clause.words:
            return None
    else:
        raise invalid(f"The query string has '{text}' where a word belongs")
    if tokens and tokens[-1][0] == "boost":
        return _boosted(clause, float(tokens.pop()[1]))
    return clause


def _boosted(clause: Clause, factor: float) -> Clause:
    if isinstance(clause, Phrase):
        return clause._replace(boost=clause.boost * factor)
    assert isinstance(clause, Group)
    return Group(*(tuple(_boosted(part, factor) for part in parts) for parts in clause))
