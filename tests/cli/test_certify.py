"""`vecfleet certify`: it asks for no more than it says, in its own indexes alone, and reports under seal."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from terminal import Brain, Vecfleet, sit_down

from migrations.certifying import converting
from migrations.certifying.asking import QUESTIONS
from migrations.certifying.runs import name_of_key
from tests.certifying.faults import PLANTED
from tests.certifying.misbehaving import Misbehaving
from tests.contracts.answering import Answer, Answering, Asked
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

PATIENCE_S = 300.0  # takes seconds; two cores that others keep busy may need this
BUDGET = ("--budget", "0.50")


@pytest.fixture
def vecfleet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: str
) -> Vecfleet:
    """A terminal that knows an emulator, and nothing else."""
    for name in ("DATABASE_URL", "REDIS_URL", "PGVECTOR_URL", "AUDIT_KEY"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "PINECONE_API_KEY": "any",
        "PINECONE_CONTROLLER_HOST": emulator,
        "VECFLEET_HOME": str(tmp_path / "home"),
        "FRESHNESS_WAIT_SECONDS": "0.2",
    }
    sit_down(monkeypatch, tmp_path, environment)
    return Vecfleet(capsys)


@pytest.fixture
def mine(vecfleet: Vecfleet, emulator: str) -> Brain:
    """An index that is no scratch index, and must stay as it is."""
    brain = Brain(emulator, PineconeStore(Settings.load()))
    brain.create("certified-by-hand")
    brain.write("prod", "a", index="certified-by-hand")
    brain.forget_calls()
    return brain


def names(brain: Brain) -> list[str]:
    return [info.name for info in brain.store.indexes()]


@pytest.fixture
def misbehaving(emulator: str, mine: Brain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    with Misbehaving(emulator, *(planted.fault for planted in PLANTED)) as service:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", service.address)
        yield service


def test_a_service_that_misbehaves_ends_with_1_and_each_way_stands_in_a_sealed_report(
    vecfleet: Vecfleet, misbehaving: Misbehaving, mine: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_KEY", "a long random word")

    answer = vecfleet("certify", "--index-prefix", "scratch", *BUDGET)

    # Each is named with both answers, on the screen, in the report and on its page
    assert answer.code == 1, answer
    [path] = Path("home/certify/reports").glob("*.json")
    told = [f"* {planted.question}: " for planted in PLANTED]
    assert [line for line in told if line not in answer.out] == []
    differences = {entry["id"]: entry for entry in orjson.loads(path.read_bytes())["differences"]}
    assert {planted.question for planted in PLANTED} - differences.keys() == set()
    assert differences["upsert-counts"]["emulator"] == "3 of 3" and differences["upsert-counts"]["service"] == "4 of 3"
    assert all(f"| {name} |" in path.with_suffix(".md").read_text() for name in differences)
    # And the switch of the emulator that decides it, where there is one
    assert "vecfleet emulator --contested undeclared-sparse=" in answer.out
    # And the seal is that of the content, until somebody changes it
    assert vecfleet("certify", "--verify", str(path)).code == 0
    path.write_text(path.read_text().replace('"4 of 3"', '"3 of 3"'))
    changed = vecfleet("certify", "--verify", str(path))
    assert changed.code == 3 and "is not the one that was recorded" in changed.err
    # And what is nobody's scratch index is as it was
    assert names(mine) == ["certified-by-hand"]


def test_a_service_that_is_as_the_emulator_ends_with_0(vecfleet: Vecfleet, mine: Brain) -> None:
    answer = vecfleet("certify", "--index-prefix", "scratch", *BUDGET, "--json")
    assert answer.code == 0, answer
    assert answer.json["differences"] == answer.json["unanswered"] == []
    assert 0 < answer.json["spent_dollars"] < 0.5
    # And it says what was not asked, and why
    unasked = {entry["id"]: entry["why"] for entry in answer.json["unasked"]}
    assert unasked == dict.fromkeys(("converted-names", "converted-sparse"), converting.NOT_ASKED)
    assert answer.json["unpriced"] == []
    # And no call was about an index that it did not create
    calls = httpx.get(f"{mine.address}/_emulator/calls").raise_for_status().json()["calls"]
    touched = {call["index"] for call in calls if call["index"] is not None}
    assert len(touched) == len({question.of for question in QUESTIONS}) and all(
        name.startswith("scratch-") for name in touched
    )
    assert names(mine) == ["certified-by-hand"]
    # And its report says that it was sealed without a key
    verified = vecfleet("certify", "--verify", answer.json["file"])
    assert verified.code == 0 and "made without a key" in verified.out


def test_a_conversion_is_asked_for_by_an_option_and_told_beside_the_cost(
    vecfleet: Vecfleet, mine: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "SNAPSHOT_MISSES_S", 0.0)

    answer = vecfleet("certify", "--index-prefix", "scratch", *BUDGET, "--convert")

    assert answer.code == 0, answer
    said = " ".join(answer.out.split())
    assert f"{len(QUESTIONS) + len(converting.QUESTIONS)} answered as the emulator answers" in said
    assert "a conversion of 3 records is among them, which the budget cannot hold" in said
    assert "not counted: a conversion of 3 records, whose price is in no price table" in said
    assert "--convert alone" not in said and names(mine) == ["certified-by-hand"]
    [page] = Path("home/certify/reports").glob("*.md")
    assert "Not counted: a conversion of 3 records" in page.read_text() and "| converted-sparse |" in page.read_text()


@pytest.fixture
def asking(mine: Brain) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has created an index, and waits for the answer to a question."""
    mine.fault(operation="upsert", namespace="values", hang=True)
    words = [sys.executable, "-P", "-m", "orchestrator", "certify", "--index-prefix", "scratch", *BUDGET]
    with subprocess.Popen(words) as run:
        deadline = time.monotonic() + PATIENCE_S
        while not any(name.startswith("scratch-") for name in names(mine)):
            assert run.poll() is None and time.monotonic() < deadline, "it created no index"
            time.sleep(0.05)
        yield run
        run.kill()


def test_a_run_that_lives_keeps_its_index(vecfleet: Vecfleet, mine: Brain, asking: subprocess.Popen[bytes]) -> None:
    [its] = [name for name in names(mine) if name.startswith("scratch-")]

    cleaned = vecfleet("certify", "--clean")

    assert cleaned.code == 3 and "is still under way" in cleaned.err and "next: wait until it ends" in cleaned.err
    [record] = Path("home/certify").glob("*.json")
    assert record.stem in cleaned.err
    # And another run says so, too
    refused = vecfleet("certify", "--index-prefix", "scratch", *BUDGET)
    assert refused.code == 3 and f"the run {record.stem} is still under way" in refused.err
    assert its in names(mine) and "delete_index" not in mine.writes()


def test_what_a_killed_run_leaves_is_named_by_the_next_and_deleted_by_clean(
    vecfleet: Vecfleet, mine: Brain, asking: subprocess.Popen[bytes]
) -> None:
    # Given a run that is killed while it asks
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    [left] = [name for name in names(mine) if name.startswith("scratch-")]
    mine.no_faults()
    mine.forget_calls()

    # Then the next run names what is left, and creates nothing
    refused = vecfleet("certify", "--index-prefix", "scratch", *BUDGET)
    assert refused.code == 3 and left in refused.err and "vecfleet certify --clean" in refused.err
    assert mine.writes() == set()
    # And it is deleted when that is asked for, and nothing else
    cleaned = vecfleet("certify", "--clean")
    assert cleaned.code == 0 and f"deleted {left}" in cleaned.out
    assert names(mine) == ["certified-by-hand"] and mine.writes() == {"delete_index"}
    assert kept() == []


def remember(number: str, address: str, key: str = "any", **more: str) -> None:
    """Write the file of a run that was killed, as it was begun with this key."""
    folder = Path("home/certify")
    folder.mkdir(parents=True, exist_ok=True)
    begun = {"number": number, "prefix": "scratch", "account": "pinecone", "begun": "2026-11-23T20:00:00Z"}
    record = {**begun, "address": address, "key": name_of_key(key), **more}
    (folder / f"{number}.json").write_bytes(orjson.dumps(record))


def kept() -> list[str]:
    """Return the runs of which there is a file or a lock."""
    return sorted({path.stem for path in Path("home/certify").iterdir() if path.is_file()})


def test_an_index_of_a_run_s_name_that_the_run_did_not_create_is_not_deleted(vecfleet: Vecfleet, mine: Brain) -> None:
    # Given the file of a run, and an index of the name that it would have given
    mine.create("scratch-1f0c9a3e-vectors")
    remember("1f0c9a3e", mine.address)

    answer = vecfleet("certify", "--clean")

    assert answer.code == 3 and "does not bear the tag" in answer.err
    assert "scratch-1f0c9a3e-vectors" in names(mine)
    # And a run at another address is not taken for one of here
    remember("1f0c9a3e", "https://api.pinecone.io")
    elsewhere = vecfleet("certify", "--clean")
    assert elsewhere.code == 2 and "set PINECONE_CONTROLLER_HOST to https://api.pinecone.io" in elsewhere.err


def test_a_run_that_cannot_be_cleaned_up_holds_no_other_up(vecfleet: Vecfleet, mine: Brain) -> None:
    remember("00000001", "https://api.pinecone.io")
    remember("00000002", mine.address)
    remember("00000003", mine.address, account="pinecone@gone")
    mine.create("scratch-00000002-vectors")

    answer = vecfleet("certify", "--clean")

    assert answer.code == 3
    assert "there is no account 'pinecone@gone'" in answer.err and "set PINECONE_CONTROLLER_HOST to" in answer.err
    # (One without its tag stays as well.)
    assert "does not bear the tag" in answer.err
    assert kept() == ["00000001", "00000002", "00000003"]
    # And what has nothing left is forgotten
    mine.drop("scratch-00000002-vectors")
    vecfleet("certify", "--clean")
    assert kept() == ["00000001", "00000003"]


def of_project(project: str) -> dict[str, object]:
    """Return the description of an index of a project, as the service tells it."""
    return {
        "name": "brain",
        "status": {"ready": True, "state": "Ready"},
        "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}}},
        "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        "deletion_protection": "disabled",
        "host": f"brain-{project}.svc.aped-4627-b74a.pinecone.io",
    }


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ([of_project("ours1")], "in the project 'theirs1', and the key that is set now is of the project 'ours1'"),
        ([], "in the project 'theirs1', and the key that is set now is another one"),
    ],
    ids=["another project", "nobody knows which project"],
)
def test_a_run_whose_indexes_are_in_another_project_is_remembered(
    vecfleet: Vecfleet, monkeypatch: pytest.MonkeyPatch, there: list[dict[str, object]], says: str
) -> None:
    # Given a key of another project than the one in which a run left its indexes
    def answer(asked: Asked) -> Answer:
        return Answer(200, {"indexes": there}) if asked.path == "/indexes" else Answer(404, {"error": {}})

    with Answering(answer) as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.address)
        remember("1f0c9a3e", server.address, "their key", project="theirs1")

        cleaned = vecfleet("certify", "--clean")

        # Then the run stays on record, and the answer says where its indexes are
        assert cleaned.code == 3 and says in cleaned.err, cleaned
        assert "next: set the key of that project" in cleaned.err and "1f0c9a3e.json" in cleaned.err
        assert kept() == ["1f0c9a3e"]
        # And with the key of that project it is known that nothing is left
        monkeypatch.setenv("PINECONE_API_KEY", "their key")
        assert vecfleet("certify", "--clean").code == 0
        assert kept() == []
    assert {asked.method for asked in server.asked} == {"GET"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--index-prefix", "certified", *BUDGET), 3, "'certified-by-hand' begins with 'certified'"),
        (("--index-prefix", "No_Prefix", *BUDGET), 2, "'No_Prefix' begins no name"),
        (("--index-prefix", "p" * 25, *BUDGET), 2, "3 to 24 characters"),
        (("--index-prefix", "scratch", "--budget", "0.01"), 2, "more than the budget of $0.010; nothing was created"),
        (("--index-prefix", "scratch"), 2, "--index-prefix and --budget are both needed"),
        (("--index-prefix", "pinecone@nowhere:scratch", *BUDGET), 2, "there is no account 'pinecone@nowhere'"),
        (("--verify", "no-report.json"), 2, "no-report.json is no report"),
    ],
)
def test_bad_input_creates_nothing(
    vecfleet: Vecfleet, mine: Brain, words: tuple[str, ...], code: int, says: str
) -> None:
    answer = vecfleet("certify", *words)
    assert answer.code == code, answer
    assert says in answer.err and "next: " in answer.err
    assert mine.writes() == set() and not Path("home/certify").exists()


def test_without_a_key_nothing_is_sent(vecfleet: Vecfleet, mine: Brain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINECONE_API_KEY")
    answer = vecfleet("certify", "--index-prefix", "scratch", *BUDGET)
    assert answer.code == 2 and "PINECONE_API_KEY is not set" in answer.err and "next: " in answer.err
    assert mine.writes() == set()


def test_the_key_of_another_project_creates_nothing(vecfleet: Vecfleet, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given settings that name our project, and a key of another
    with Answering(lambda _: Answer(200, {"indexes": [of_project("theirs1")]})) as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.address)
        monkeypatch.setenv("PINECONE_PROJECT", "ours1")

        answer = vecfleet("certify", "--index-prefix", "scratch", *BUDGET)

    assert answer.code == 1 and "is of the project 'theirs1'" in answer.err and "next: " in answer.err
    assert [asked.method for asked in server.asked] == ["GET"]
