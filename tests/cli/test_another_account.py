"""A second account: named on either side of a plan or a check, with a key of its own that nothing else tells."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Brain, Vecfleet

from emulator.server import start
from migrations.plan import read_plan
from migrations.reversing import way_back
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

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
    assert answer.code == 1 and answer.out.startswith("* second/b-2\n")


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
    # And what the service would back up is not in the account of PINECONE_API_KEY
    refused = vecfleet("apply", "plan.yaml", "--backup")
    assert refused.code == 2 and "the source is in pinecone@eu" in refused.err
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
            "index brain pinecone@eu:brain`, which keeps the metadata as the map left them",
        ),
    ):
        assert vecfleet("plan", *words, "--out", "plan.yaml").code == 0
        # Then what is typed to go back fills that account, and not the other
        assert f"vecfleet plan {back}" in way_back(read_plan(Path("plan.yaml")))


def test_tenants_are_regrouped_only_where_their_routes_lead(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    eu.write("coach", "c-1", team="a")
    for words in (
        ("creators", "pinecone@eu:brain", "--creator", "ana"),
        ("index", "brain", "pinecone@eu:other", "--creator", "ana"),
        ("namespaces", "pinecone@eu:brain", "coach=creator_ana_twin_coach"),
        ("namespaces", "brain", "first=creator_ana", "--to", "pinecone@eu:other"),
        ("namespaces", "pinecone@eu:brain", "coach=creator_{value}", "--by", "team"),
    ):
        refused = vecfleet("plan", *words)
        assert refused.code == 2 and "routes name an index and not its account" in refused.err
    assert vecfleet("plan", "export", "pgvector:public").code == 2


def test_an_account_that_is_not_there_is_named(vecfleet: Vecfleet, brain: Brain, eu: Brain) -> None:
    answer = vecfleet("check", "pinecone:brain", "pinecone@us:brain")
    assert answer.code == 2
    assert "there is no account 'pinecone@us' here; there are: pinecone@eu" in answer.err
