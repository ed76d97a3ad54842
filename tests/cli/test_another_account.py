"""A second account: named on either side of a plan or a check, with a key of its own that nothing else tells."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from terminal import DIMENSION, Brain, Vecfleet

from emulator.server import start
from migrations.plan import read_plan
from migrations.reversing import way_back
from orchestrator.bootstrap import Fleet
from orchestrator.web.acting import require_typed
from vecfleet.errors import Refused
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.routes import Route, RoutePlace, RouteTable, write_table

KEY = "the-key-of-eu"


@pytest.fixture
def eu(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Brain]:
    """Another control plane, which takes another key, as the account `eu`."""
    running = start(api_keys=(KEY,))
    path = tmp_path / "accounts.toml"
    path.write_text(f'[eu]\napi_key = "{KEY}"\ncontroller_host = "{running.control}"\n')
    path.chmod(0o600)
    monkeypatch.setenv("PINECONE_CONNECTIONS", str(path))
    settings = Settings(pinecone_api_key=KEY, pinecone_controller_host=running.control)  # type: ignore[arg-type]
    brain = Brain(running.control, PineconeStore(settings))
    brain.create()
    yield brain
    running.stop()


def test_each_account_is_asked_with_its_own_key(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    # Given the same records in both accounts, in indexes of the same name
    eu.write("first", "a-1", "a-2", title="one")
    eu.write("second", "b-1", "b-2", title="two")
    # Then each is reached, on either side
    assert vecfleet("check", "pinecone:brain", "pinecone@eu:brain").code == 0
    eu.write("second", "b-2", title="another")
    answer = vecfleet("check", "pinecone@eu:brain", "pinecone:brain")
    assert answer.code == 1 and answer.out.startswith("* second/b-2: metadata: title\n")


def test_the_doctor_lists_every_account(vecfleet: Vecfleet, brain: Brain, eu: Brain, tmp_path: Path) -> None:
    checks = {check["name"]: check for check in vecfleet("doctor", "--json").json["checks"]}
    assert checks["pinecone@eu"] == {
        "name": "pinecone@eu",
        "ok": True,
        "detail": "takes the key: brain",
        "remedy": None,
        "code": None,
    }
    # And says of a refused key, and of a file that others may read, what to do
    path = tmp_path / "accounts.toml"
    path.write_text(path.read_text().replace(KEY, "another-key"))
    checks = {check["name"]: check for check in vecfleet("doctor", "--json").json["checks"]}
    assert not checks["pinecone@eu"]["ok"] and "PINECONE_CONNECTIONS" in checks["pinecone@eu"]["remedy"]
    path.chmod(0o644)
    checks = {check["name"]: check for check in vecfleet("doctor", "--json").json["checks"]}
    assert checks["accounts"]["remedy"] == f"chmod 600 {path}"


def test_a_plan_names_the_account_and_not_its_key(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    eu.write("coach", "c-1", title="one")
    answer = vecfleet("plan", "stores", "pinecone@eu:brain", "pinecone:brain", "--out", "plan.yaml")
    assert answer.code == 0, answer.err
    text = Path("plan.yaml").read_text()
    assert "store: pinecone@eu" in text and KEY not in text + answer.out
    assert vecfleet("apply", "plan.yaml", "--dry-run").code == 0


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (("index", "pinecone@eu:brain", "brain"), ("pinecone@eu", "pinecone")),
        (("index", "brain", "pinecone@eu:other"), ("pinecone", "pinecone@eu")),
        (("index", "pinecone@eu:brain", "pinecone@eu:other"), ("pinecone@eu", "pinecone@eu")),
        (("namespaces", "pinecone@eu:brain", "coach=coach_v2"), ("pinecone@eu", "pinecone@eu")),
        (("namespaces", "brain", "first=coach_v2", "--to", "pinecone@eu:brain"), ("pinecone", "pinecone@eu")),
        (("export", "pinecone@eu:brain"), ("pinecone@eu", "parquet")),
    ],
    ids=lambda value: "-".join(value).replace(":", "-"),
)
def test_either_side_of_a_plan_may_be_in_another_account(
    vecfleet: Vecfleet, brain: Brain, eu: Brain, words: tuple[str, ...], ends: tuple[str, str]
) -> None:
    eu.write("coach", "c-1", title="one")
    answer = vecfleet("plan", *words, "--out", "plan.yaml")
    assert answer.code == 0, answer.err
    plan = read_plan(Path("plan.yaml"))
    assert (plan.source.store, plan.target.store) == ends
    assert vecfleet("apply", "plan.yaml", "--dry-run").code == 0


def test_the_way_back_leads_to_the_account_that_records_came_from(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    # Given an index of the same name in both accounts
    eu.write("coach", "c-1", title="one")
    for words, back in (
        (("index", "pinecone@eu:brain", "brain"), "index brain pinecone@eu:brain"),
        (("index", "pinecone@eu:brain", "pinecone@eu:other"), "index pinecone@eu:other pinecone@eu:brain"),
        (("export", "pinecone@eu:brain", "exports/eu"), "import exports/eu pinecone@eu:brain"),
        (
            ("index", "pinecone@eu:brain", "brain", "--drop", "title", "--map-undo", "none", "--collisions", "prefix"),
            "index brain pinecone@eu:brain --namespace coach`, which keeps the metadata as the map left them",
        ),
    ):
        assert vecfleet("plan", *words, "--out", "plan.yaml").code == 0
        # Then what is typed to go back fills that account, and not the other
        assert f"vecfleet plan {back}" in way_back(read_plan(Path("plan.yaml")))


def test_tenants_are_regrouped_in_any_account(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    eu.write("coach", "c-1", team="a")
    for words in (
        ("creators", "pinecone@eu:brain", "--creator", "ana"),
        ("index", "brain", "pinecone@eu:other", "--creator", "ana"),
        ("namespaces", "pinecone@eu:brain", "coach=creator_ana_twin_coach"),
        ("namespaces", "brain", "first=creator_ana", "--to", "pinecone@eu:third"),
    ):
        answer = vecfleet("plan", *words, "--out", "plan.yaml")
        assert answer.code == 0, answer.err
        assert "creator_ana" in answer.out
        assert vecfleet("apply", "plan.yaml", "--dry-run").code == 0
    assert vecfleet("plan", "export", "pgvector:public").code == 2


def test_an_index_of_another_account_is_audited_like_any_other(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    eu.create("only-there")
    eu.write("coach", "c-1", title="one")
    answer = vecfleet("audit", "pinecone@eu:brain", "--json").json
    assert [namespace["name"] for namespace in answer["index"]["namespaces"]] == ["coach"]
    assert answer["next_steps"] == [
        "vecfleet plan creators pinecone@eu:brain --creator CREATOR",
        "vecfleet plan namespaces pinecone@eu:brain OLD=NEW",
    ]
    # And so is the account as a whole, and each account by itself
    indexes = {
        account: {index["name"] for index in vecfleet("audit", account, "--json").json["indexes"]}
        for account in ("pinecone@eu", "brain")
    }
    assert indexes == {"pinecone@eu": {"brain", "only-there"}, "brain": {"brain"}}
    shared = vecfleet("analyze", "pinecone@eu:brain", "--namespace", "coach", "--json")
    assert shared.json["records"] == 1


def test_a_backup_is_taken_kept_and_restored_in_the_account_of_its_index(
    vecfleet: Vecfleet, brain: Brain, eu: Brain
) -> None:
    eu.write("coach", "c-1", title="one")
    vecfleet("plan", "stores", "pinecone@eu:brain", "pinecone:brain", "--out", "plan.yaml")
    applied = vecfleet("apply", "plan.yaml", "--backup")
    assert applied.code == 0, applied.err
    (kept,) = vecfleet("backup", "list", "pinecone@eu", "--json").json["backups"]
    assert (kept["index"], kept["records"]) == ("pinecone@eu:brain", 1)
    assert f"vecfleet backup restore {kept['id']} pinecone@eu:NAME" in applied.out
    assert vecfleet("backup", "list", "--json").json["backups"] == []
    # And from there it comes back
    assert vecfleet("backup", "restore", kept["id"], "pinecone@eu:again").code == 0
    assert eu.store.open(eu.store.describe("again")).list_ids("coach").ids == ["c-1"]
    assert [index.name for index in brain.store.indexes()] == ["brain"]


def test_an_index_is_wiped_in_its_own_account_alone(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    eu.write("first", "c-1", title="one")
    brain.forget_calls()
    answer = vecfleet("wipe", "--index", "pinecone@eu:brain", "--export", "kept", "--yes")
    assert answer.code == 0, answer.err
    assert "This deletes 1 record in 1 namespace of the index pinecone@eu:brain" in answer.out
    assert [held for held in eu.store.open(eu.store.describe("brain")).namespaces() if held.count] == []
    assert brain.writes() == set()


def test_forget_reaches_every_account_that_a_job_took_records_to(
    vecfleet: Vecfleet, brain: Brain, eu: Brain, tmp_path: Path
) -> None:
    # Given a tenant in indexes of one name in two accounts, of which the job table knows by a job
    for account in (brain, eu):
        account.write("creator_ana_twin_coach", "a-1", creator_id="ana")
        account.write("__default__", "hers", creator_id="ana")
        account.write("__default__", "his", creator_id="bob")
    vecfleet("plan", "stores", "pinecone:brain", "pinecone@eu:other", "--out", "there.yaml")
    assert vecfleet("apply", "there.yaml", "--no-backup").code == 0
    vecfleet("plan", "export", "pinecone@eu:brain", "--out", "out.yaml")
    assert vecfleet("apply", "out.yaml", "--no-backup").code == 0

    # Where this machine has lost that account, nothing is erased anywhere
    accounts = tmp_path / "accounts.toml"
    held = accounts.read_text()
    accounts.write_text("")
    refused = vecfleet("forget", "--creator", "ana", "--yes")
    assert refused.code == 2 and "there is no account 'pinecone@eu' here" in refused.err
    assert "--index NAME" in refused.err and "nothing was erased" in refused.err
    accounts.write_text(held)

    answer = vecfleet("forget", "--creator", "ana", "--yes", "--json")

    assert answer.code == 0, answer.err
    gone = {(place["index"], place["namespace"]): place["records"] for place in answer.json["deleted"]}
    assert gone == {
        (index, name): 1
        for index in ("brain", "pinecone@eu:brain")
        for name in ("creator_ana_twin_coach", "__default__")
    }
    for account in (brain, eu):
        index = account.store.open(account.store.describe("brain"))
        assert index.list_ids("__default__").ids == ["his"]
    assert "ana" not in json.dumps(answer.json["certificate"])


def test_a_client_follows_a_route_into_another_account(brain: Brain, eu: Brain, tmp_path: Path) -> None:
    # Given a tenant whose route leads from one account's index to that of the same name in another
    name = "creator_ana_twin_coach"
    brain.write("coach", "old", creator_id="ana")
    eu.write(name, "new", creator_id="ana")
    routes = tmp_path / "routes.json"
    client = PineconeDelphiClient("brain", rollout=Rollout(CachedRoutes(FileRoutes(routes), cache_s=0.0), flag=False))

    def led_to(side: Literal["old", "new"]) -> list[str]:
        route = Route("ana", RoutePlace(name, "pinecone@eu:brain"), (RoutePlace("coach"),), twin="coach", side=side)
        routes.write_bytes(write_table(RouteTable(routes=(route,))))
        client.upsert_vectors([(f"written-{side}", [1.0] * DIMENSION)], "ana", "coach")
        return [hit.id for hit in client.query([1.0] * DIMENSION, "ana", "coach").matches]

    assert set(led_to("old")) == {"old", "written-old"}
    assert set(led_to("new")) == {"new", "written-new"}
    assert eu.store.open(eu.store.describe("brain")).list_ids(name).ids == ["new", "written-new"]
    # And an erasure by the client finds what lies in both
    assert client.erase("ana").records == 4


def test_who_deletes_types_the_account_that_is_meant(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    # Given a job from one account's index into that of the same name in another
    eu.write("coach", "c-1", title="one")
    planned = vecfleet("plan", "stores", "pinecone@eu:brain", "pinecone:brain", "--out", "plan.yaml")
    assert "pinecone@eu:brain → brain" in planned.out
    assert vecfleet("apply", "plan.yaml", "--no-backup").code == 0
    # Then the name that both have permits no deletion from the named one
    parts = Fleet(Settings.load())
    with pytest.raises(Refused, match="what was typed is not pinecone@eu:brain"):
        require_typed(parts, 1, "cleanup", "brain")
    require_typed(parts, 1, "cleanup", "pinecone@eu:brain")
    require_typed(parts, 1, "rollback", "brain")
    parts.database.dispose()


def test_an_account_that_is_not_there_is_named(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    answer = vecfleet("check", "pinecone:brain", "pinecone@us:brain")
    assert answer.code == 2
    assert "there is no account 'pinecone@us' here; there are: pinecone@eu" in answer.err
