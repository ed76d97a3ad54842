"""The guard: nobody passes into another's namespace, whatever the names are."""

import json
import logging
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from vecfleet import names
from vecfleet.errors import BadInput, BadName
from vecfleet.tenancy import TenantAuditLogger, TenantGuard, TenantIsolationError

HOSTILE_PAIRS = 120_000
PIECES = [
    "creator_",
    "_twin_",
    "_twin",
    "twin_",
    "twin",
    "_",
    "a",
    "ab",
    "b",
    ".1",
    "x",
    "y",
    "é",
    "\0",
    " ",
    "*",
    "%",
    "../",
    "A",
    "public",
    "__default__",
]
COACH = "creator_sainath.no.1_twin_coach"


def test_a_creator_reaches_their_own_namespaces() -> None:
    assert TenantGuard.validate_namespace_access(user_creator_id="sainath.no.1", namespace=COACH)
    assert TenantGuard.validate_namespace_access(user_creator_id="sainath.no.1", namespace="creator_sainath.no.1")


@pytest.mark.parametrize(
    ("creator", "namespace"),
    [
        ("other.user", COACH),
        ("sainath.no", COACH),
        ("sainath.no.1", "creator_sainath.no.10"),
        ("sainath.no.1_twin_coach", COACH),
        ("", "creator_"),
        ("sainath.no.1", ""),
        ("sainath.no.1", "__default__"),
        ("sainath.no.1", "public"),
        ("x_twin", "creator_x_twin_y"),
    ],
)
def test_another_gets_a_sentence_with_what_was_asked(creator: str, namespace: str) -> None:
    with pytest.raises(TenantIsolationError, match="Access denied") as refusal:
        TenantGuard.validate_namespace_access(user_creator_id=creator, namespace=namespace)

    assert repr(namespace) in refusal.value.message


def test_no_hostile_pair_passes_into_a_foreign_namespace() -> None:
    """A creator passes exactly where the codec, asked the other way round, would build that very namespace."""
    chance = random.Random(20_261_121)
    passed = 0
    for _ in range(HOSTILE_PAIRS):
        creator, twin, other = ("".join(chance.choices(PIECES, k=chance.randrange(5))) for _ in range(3))
        for namespace in (f"creator_{creator}_twin_{twin}", f"creator_{creator}", creator):
            allowed = _passes(other, namespace) | (2 * _passes(creator, namespace))
            assert not allowed & 1 or _built_for(other, namespace), (other, namespace)
            assert not allowed & 2 or _built_for(creator, namespace), (creator, namespace)
            passed += bool(allowed)

    assert passed > 1_000, "a guard that lets nobody in was not tested"


def _passes(creator: str, namespace: str) -> bool:
    try:
        return TenantGuard.validate_namespace_access(user_creator_id=creator, namespace=namespace)
    except TenantIsolationError:
        return False


def _built_for(creator: str, namespace: str) -> bool:
    """Say whether `build` calls a namespace of the creator so; not by parsing, so that the two check each other."""
    prefix = f"creator_{creator}"
    if not namespace.startswith(prefix):
        return False
    rest = namespace[len(prefix) :]
    try:
        if not rest:
            return names.build(creator) == namespace
        return rest.startswith("_twin_") and names.build(creator, rest[len("_twin_") :]) == namespace
    except BadName:
        return False


@pytest.mark.parametrize(
    ("user", "creators"),
    [
        ({"creator_ids": ["a", "b"], "creator_id": "c"}, {"a", "b"}),
        ({"creator_id": "c", "tenant_id": 7}, {"c"}),
        ({"tenant_id": 7}, {"tenant_7"}),
        ({"creator_ids": []}, set()),
        ({"creator_ids": "ab"}, {"ab"}),
        ({}, set()),
    ],
)
def test_a_users_creators_are_read_from_any_of_three_fields(user: dict[str, object], creators: set[str]) -> None:
    assert TenantGuard({"id": "u", **user}).creator_ids == creators


def test_a_user_reaches_their_creators_and_no_others() -> None:
    guard = TenantGuard({"id": "u1", "email": "u@x", "creator_ids": ["a", "b"], "role": "user"})

    assert guard.validate_creator_access("a")
    assert guard.validate_namespace_access("creator_b_twin_t")
    assert guard.get_allowed_namespaces() == ["creator_a", "creator_a_*", "creator_b", "creator_b_*"]
    assert not guard.is_admin
    for refused in ("creator_c", "creator_ab", "public", "creator_a_twin"):
        with pytest.raises(TenantIsolationError, match="Access denied"):
            guard.validate_namespace_access(refused)
    with pytest.raises(TenantIsolationError, match="'c'"):
        guard.validate_creator_access("c")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ({"user_id": "u", "id": "i", "sub": "s", "email": "e"}, "u"),
        ({"id": "i", "sub": "s", "email": "e"}, "i"),
        ({"sub": "s", "email": "e"}, "s"),
        ({"email": "e"}, "e"),
        ({"user_id": None, "id": "", "sub": 7}, "7"),
    ],
)
def test_who_asks_is_said_by_the_first_field_that_says_it(user: dict[str, object], identity: str) -> None:
    assert TenantGuard(user).user_id == identity


def test_a_user_without_an_identity_is_refused() -> None:
    with pytest.raises(TenantIsolationError, match="who asks is not known") as refusal:
        TenantGuard({"creator_ids": ["a"], "role": "admin"})

    assert "user_id" in str(refusal.value.next_step)


def test_an_admin_passes_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    guard = TenantGuard({"id": "root", "role": "admin"})

    with caplog.at_level(logging.INFO):
        assert guard.validate_namespace_access("creator_c_twin_t")
        assert guard.validate_creator_access("c")

    assert [line.partition(" {")[0] for line in caplog.messages] == ["Admin access granted"] * 2
    assert guard.get_allowed_namespaces() == ["*"]


def test_results_of_others_are_left_out() -> None:
    guard = TenantGuard({"id": "u", "creator_id": "a"})
    mine = {"id": "1", "metadata": {"creator_id": "a"}}
    by_namespace = SimpleNamespace(id="2", namespace="creator_a_twin_t", metadata={})
    foreign = {"id": "3", "metadata": {"creator_id": "b"}}
    disguised = {"id": "4", "namespace": "creator_b", "metadata": {"creator_id": "a"}}
    nobodys = {"id": "5", "metadata": {}}

    assert guard.filter_results_by_tenant([mine, by_namespace, foreign, disguised, nobodys]) == [mine, by_namespace]


def test_the_audit_log_has_a_line_for_each_act_and_neither_texts_nor_vectors(tmp_path: Path) -> None:
    file = tmp_path / "audit" / "log.jsonl"
    audit = TenantAuditLogger(file)

    audit.log_vector_query(user_id="u", creator_id="a", twin_id="t", results=3)
    audit.log_isolation_violation(user_id="u", requested="namespace 'creator_b'")
    audit.log_data_deletion(user_id="u", creator_id="a")
    audit.log_admin_access(user_id="root", requested="creator 'a'")

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["event"], line["severity"]) for line in lines] == [
        ("vector_query", "INFO"),
        ("isolation_violation", "HIGH"),
        ("data_deletion", "INFO"),
        ("admin_access", "MEDIUM"),
    ]
    assert lines[1]["blocked"] is True and lines[2]["gdpr_request"] is True and lines[0]["results"] == 3
    assert all(set(line) <= FIELDS for line in lines)


def test_without_a_file_the_handlers_of_the_application_get_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = TenantAuditLogger()

    with caplog.at_level(logging.INFO):
        audit.log_vector_query(user_id="u", creator_id="a", twin_id="t", results=3)
        audit.log_isolation_violation(user_id="u", requested="namespace 'creator_b'")

    query, violation = caplog.records
    assert (query.name, query.levelname, violation.levelname) == ("vecfleet.tenancy.audit", "INFO", "WARNING")
    assert query.getMessage().startswith("vector_query {")
    assert json.loads(query.getMessage().removeprefix("vector_query ")) == {
        "severity": "INFO", "user_id": "u", "creator_id": "a", "twin_id": "t", "results": 3,
    }  # fmt: skip


def test_the_audit_log_takes_the_keywords_of_the_seeds_too(tmp_path: Path) -> None:
    audit = TenantAuditLogger(tmp_path / "log.jsonl")

    audit.log_isolation_violation(
        user_id="u", email="e", attempted_creator_id="b", authorized_creators=["a"], endpoint="/query", ip_address=None
    )
    audit.log_admin_access(admin_id="root", admin_email="e", accessed_creator_id="a", reason="support")

    violation, access = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert violation["requested"] == "creator 'b'" and violation["attempted_creator_id"] == "b"
    assert violation["authorized_creators"] == ["a"] and violation["endpoint"] == "/query"
    assert (access["user_id"], access["requested"], access["reason"]) == ("root", "creator 'a'", "support")
    with pytest.raises(BadInput, match="what was asked for"):
        audit.log_isolation_violation(user_id="u")


FIELDS = {
    *("at", "event", "severity", "user_id", "creator_id", "twin_id"),
    *("results", "requested", "blocked", "gdpr_request"),
}
