"""Questions about lists: of ids, and of namespaces."""

from itertools import pairwise

from migrations.certifying.question import Asker, Question, Scratch, vector
from migrations.certifying.wire import Reply

_IDS = ["!", "0", "B", "Z", "_", "a", "a b", "a/b", "a1", "a10", "a2", "~"]  # in the order of their bytes
_PER_PAGE = 5
_MOST_PAGES = 20
_NAMES = [f"listed-{number:02}" for number in range(7)]
_SCHEMA = {"fields": {"creator_id": {"filterable": True}}}


def _ids(reply: Reply) -> list[str]:
    return [item["id"] for item in reply.body.get("vectors") or ()]


def _following(reply: Reply) -> str | None:
    return (reply.body.get("pagination") or {}).get("next") or None


def _pages(asker: Asker, namespace: str) -> tuple[list[list[str]], bool]:
    """Return the pages of a namespace's ids, and whether they came to an end."""
    pages: list[list[str]] = []
    token: str | None = None
    for _ in range(_MOST_PAGES):
        reply = asker.wire.list_ids(namespace, limit=_PER_PAGE, paginationToken=token)
        pages.append(_ids(reply))
        token = _following(reply)
        if token is None:
            return pages, True
    return pages, False


def _listed(asker: Asker, namespace: str) -> list[str]:
    """Return the ids of a namespace that was just written to, once the list shows them all."""
    asker.written(namespace, *(vector(id) for id in _IDS))

    def walked() -> list[str]:
        return [id for page in _pages(asker, namespace)[0] for id in page]

    asker.eventually(lambda: set(_IDS) <= set(walked()))
    return walked()


def _in_byte_order(asker: Asker) -> str:
    ids = _listed(asker, "byte-order")
    unsorted = sum(earlier > later for earlier, later in pairwise(ids))
    return f"{unsorted} ids stand behind a later one" if unsorted else "by their bytes"


def _each_once(asker: Asker) -> str:
    ids = _listed(asker, "each-id-once")
    twice, missing = len(ids) - len(set(ids)), len(set(_IDS) - set(ids))
    return f"{twice} twice, {missing} missing" if twice or missing else "each once"


def _tokens_lead_on(asker: Asker) -> str:
    asker.written("tokens", *(vector(id) for id in _IDS))
    full = -(-len(_IDS) // _PER_PAGE)
    asker.eventually(lambda: len(_pages(asker, "tokens")[0]) >= full)
    pages, ended = _pages(asker, "tokens")
    return f"to an end after {len(pages)} pages" if ended else f"to no end in {len(pages)} pages"


def _token_twice(asker: Asker) -> str:
    _listed(asker, "token-twice")
    token = _following(asker.wire.list_ids("token-twice", limit=_PER_PAGE))
    first, second = (asker.wire.list_ids("token-twice", limit=_PER_PAGE, paginationToken=token) for _ in range(2))
    if not second.ok:
        return second.verdict
    return "the same page" if _ids(first) == _ids(second) else "another page"


def _prefix(asker: Asker) -> str:
    ids = ["user1", "user1#a", "user10", "user2", "User1"]
    asker.written("prefix", *(vector(id) for id in ids))
    asker.eventually(lambda: len(_ids(asker.wire.list_ids("prefix"))) == len(ids))
    return " ".join(_ids(asker.wire.list_ids("prefix", prefix="user1")))


def _page_of_101(asker: Asker) -> str:
    return asker.wire.list_ids("page", limit=101).verdict


def _no_token(asker: Asker) -> str:
    asker.written("no-token", vector("a"))
    return asker.wire.list_ids("no-token", paginationToken="no token").verdict


def _absent_listed(asker: Asker) -> str:
    reply = asker.wire.list_ids("nowhere")
    return f"{reply.status}, with {len(_ids(reply))} ids" if reply.ok else reply.verdict


def _names(asker: Asker, prefix: str) -> list[str]:
    """Return the names of all namespaces that begin so, page by page."""
    names: list[str] = []
    token: str | None = None
    for _ in range(_MOST_PAGES):
        reply = asker.wire.namespaces(prefix=prefix, limit=3, paginationToken=token)
        names += [namespace["name"] for namespace in reply.body.get("namespaces") or ()]
        token = _following(reply)
        if token is None:
            break
    return names


def _all_namespaces(asker: Asker) -> str:
    for name in _NAMES:
        asker.wire.upsert(name, [vector("a")])
    asker.eventually(lambda: _names(asker, "listed-") == _NAMES)
    names = _names(asker, "listed-")
    if sorted(names) != _NAMES:
        return f"{len(set(_NAMES) & set(names))} of {len(_NAMES)}"
    return "all, sorted" if names == _NAMES else "all, not sorted"


def _schema_kept(asker: Asker) -> str:
    asker.wire.create_namespace("schema", _SCHEMA)
    asker.eventually(lambda: asker.wire.namespace("schema").ok)
    kept = asker.wire.namespace("schema").body.get("schema") or {}
    return "as created" if (kept.get("fields") or {}).keys() == _SCHEMA["fields"].keys() else "another"


def _created_twice(asker: Asker) -> str:
    asker.wire.create_namespace("twice", _SCHEMA)
    asker.eventually(lambda: asker.wire.namespace("twice").ok)
    return asker.wire.create_namespace("twice", _SCHEMA).verdict


def _deleted_namespace(asker: Asker) -> str:
    asker.written("deleted-namespace", vector("a"))
    asker.wire.delete_namespace("deleted-namespace")
    gone = asker.eventually(lambda: asker.wire.namespace("deleted-namespace").status == 404)
    empty = asker.eventually(lambda: not asker.fetched("deleted-namespace", "a"))
    return f"{'gone' if gone else 'described'}, {'its record gone' if empty else 'its record fetched'}"


def _default_namespace(asker: Asker) -> str:
    asker.written("", vector("in-default"))
    by_name = asker.eventually(lambda: "in-default" in asker.fetched("__default__", "in-default"))
    asker.eventually(lambda: "__default__" in _names(asker, "__"))
    return f"{'one' if by_name else 'two'}, listed as {_names(asker, '__')}"


def _awkward_name(asker: Asker) -> str:
    name = "a/b c#d:e?f&g=h%i+j.."
    asker.written(name, vector("a"))
    asker.eventually(lambda: asker.wire.namespace(name).ok)
    reply = asker.wire.namespace(name)
    return "as it is" if reply.body.get("name") == name else reply.verdict


QUESTIONS = (
    Question(
        "list-order",
        "In which order are ids listed?",
        "by their bytes",
        "a listing goes on behind the last id that it knows, and proofs merge two lists",
        Scratch.VECTORS,
        _in_byte_order,
    ),
    Question(
        "list-each-once",
        "Does a walk through the pages name each id, and once?",
        "each once",
        "a move copies what is listed; an id that is named nowhere is lost",
        Scratch.VECTORS,
        _each_once,
    ),
    Question(
        "list-tokens",
        "Where do the tokens of 12 ids on pages of five lead?",
        "to an end after 3 pages",
        "a source is listed when there is no further token",
        Scratch.VECTORS,
        _tokens_lead_on,
    ),
    Question(
        "list-token-twice",
        "What does a token answer that was used before?",
        "the same page",
        "a listing whose worker died begins its page again",
        Scratch.VECTORS,
        _token_twice,
    ),
    Question(
        "list-prefix",
        "Which ids are listed by the prefix user1?",
        "user1 user1#a user10",
        "ids are looked up by prefix where a tenant's begin alike",
        Scratch.VECTORS,
        _prefix,
    ),
    Question(
        "list-page-of-101",
        "Is a page of 101 ids given?",
        "refused with 400",
        "a page holds 100 ids",
        Scratch.VECTORS,
        _page_of_101,
    ),
    Question(
        "list-wrong-token",
        "Is a list by a token answered that is none?",
        "refused with 400",
        "a token that is refused has the listing begin again",
        Scratch.VECTORS,
        _no_token,
    ),
    Question(
        "list-absent-namespace",
        "What does a list of a namespace answer that is not there?",
        "200, with 0 ids",
        "an absent source is an empty one",
        Scratch.VECTORS,
        _absent_listed,
    ),
    Question(
        "namespaces-listed",
        "Are all of seven namespaces listed, on pages of three?",
        "all, sorted",
        "a plan for a whole index moves the namespaces that are listed",
        Scratch.VECTORS,
        _all_namespaces,
    ),
    Question(
        "namespace-schema",
        "With which filterable fields is a namespace described that was created with one?",
        "as created",
        "a target gets the filterable fields of its source",
        Scratch.VECTORS,
        _schema_kept,
    ),
    Question(
        "namespace-twice",
        "Is a namespace created that is there?",
        "refused with 409",
        "by that a batch that runs twice knows that its target is there",
        Scratch.VECTORS,
        _created_twice,
    ),
    Question(
        "namespace-deleted",
        "What is left of a namespace that was deleted?",
        "gone, its record gone",
        "a clean-up confirms that its sources are gone",
        Scratch.VECTORS,
        _deleted_namespace,
    ),
    Question(
        "default-namespace",
        "Are '' and __default__ one namespace or two?",
        "one, listed as ['__default__']",
        "a plan that moves one onto the other would delete its own data",
        Scratch.VECTORS,
        _default_namespace,
    ),
    Question(
        "namespace-name",
        "Is a namespace of awkward characters described by its name?",
        "as it is",
        "names of namespaces are kept as they are",
        Scratch.VECTORS,
        _awkward_name,
    ),
)
