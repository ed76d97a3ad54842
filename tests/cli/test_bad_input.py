"""Bad input gets a clear sentence, a next step and a non-zero exit; nothing is written anywhere."""

import inspect
import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from job_table import JobTable, plan_of, planned
from terminal import Answer, Brain, Vecfleet, contents

from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.output import JobId
from orchestrator.embedded.process import Process
from orchestrator.embedded.record import StackRecord
from orchestrator.ledger.database import Database


@pytest.fixture
def refused(vecfleet: Vecfleet, brain: Brain, database: Database) -> Callable[..., Answer]:
    """Type it; it must fail with a sentence that holds these words, and change nothing."""

    def check(*words: str, says: str, code: int, table: bool = True) -> Answer:
        before = contents(database) if table else None
        brain.forget_calls()
        answer = vecfleet(*words)
        assert answer.code == code, answer
        assert re.search(says, answer.err), answer.err
        assert "next: " in answer.err
        assert "Traceback" not in answer.err + answer.out
        assert brain.writes() == set()
        assert before is None or contents(database) == before
        return answer

    return check


@pytest.fixture
def plan(vecfleet: Vecfleet, brain: Brain) -> str:
    """A plan for both namespaces."""
    answer = vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml")
    assert answer.code == 0, answer.err
    return "plan.yaml"


Refused = Callable[..., Answer]


def test_a_wrong_key(refused: Refused, brain: Brain) -> None:
    brain.fault(operation="*", status=401)
    refused("audit", says="(?s)401", code=1)


@pytest.mark.parametrize(
    ("words", "helps"),
    [
        (("cutover", "1"), "vecfleet cutover --help"),
        (("cutover", "--percent", "5"), "vecfleet jobs"),
        (("status",), "vecfleet jobs"),
        (("finish",), "vecfleet jobs"),
        (("park", "list"), "vecfleet jobs"),
        (("cutover", "1", "--per-cent", "5"), "vecfleet cutover --help"),
        (("park", "lst", "1"), "vecfleet park --help"),
        (("plan", "index"), "vecfleet plan index --help"),
        (("aply",), "vecfleet --help"),
    ],
)
def test_what_is_no_command_line_is_told_where_its_help_is(
    vecfleet: Vecfleet, words: tuple[str, ...], helps: str
) -> None:
    answer = vecfleet(*words)
    assert answer.code == 2 and answer.err.splitlines()[-1] == f"next: {helps}"


@pytest.mark.parametrize(
    ("typed", "says", "helps"),
    [
        ("list", "Did you mean 'jobs'?", "vecfleet jobs"),
        ("copy", "Did you mean 'plan namespaces'?", "vecfleet plan namespaces --help"),
        ("delete-job", "Did you mean 'cancel'?", "vecfleet cancel --help"),
        ("statsu", "Did you mean 'status'?", "vecfleet --help"),
        ("delte", "Did you mean 'delete'?", "vecfleet --help"),
        ("delete-index", "No such command 'delete-index'.", "vecfleet --help"),
    ],
)
def test_who_guesses_a_command_is_told_the_one_that_does_it_and_none_that_destroys_something_else(
    vecfleet: Vecfleet, typed: str, says: str, helps: str
) -> None:
    answer = vecfleet(typed, "1")
    assert answer.code == 2 and answer.err.splitlines()[-2:] == [
        f"Error: {says}" if says.startswith("No") else f"Error: No such command {typed!r}. {says}",
        f"next: {helps}",
    ]


@pytest.mark.parametrize("words", [(), ("status",), ("park",), ("park", "list")], ids=" ".join)
def test_help_is_a_command_too(vecfleet: Vecfleet, words: tuple[str, ...]) -> None:
    asked, usual = vecfleet("help", *words), vecfleet(*words, "--help")
    assert (asked.code, asked.out) == (0, usual.out) and usual.out.startswith("Usage: vecfleet")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--conflicts", "maybe"), "'maybe' is not one of 'fail', 'keep', 'overwrite'"),
        (("--max-passes", "0"), "0 is too small: the minimum is 1"),
        (("--max-passes", "few"), "'few' is not a whole number"),
        (("--query-top-k", "1.5"), "'1.5' is not a whole number"),
        (("--query-overlap", "much"), "'much' is not a number"),
        (("--shadow-share", "2"), "2 is too large: the maximum is 1.0"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_named_with_what_it_takes(
    vecfleet: Vecfleet, words: tuple[str, ...], says: str
) -> None:
    answer = vecfleet("plan", "creators", "brain", "--creator", "ana", *words)
    assert answer.code == 2 and f"Invalid value for '{words[0]}': {says}" in answer.err, answer.err
    assert "Value error" not in answer.err and "Input should" not in answer.err


def test_a_backup_is_not_both_wanted_and_not_wanted(refused: Refused, plan: str) -> None:
    refused("apply", plan, "--backup", "--no-backup", says="they exclude each other", code=2)


def test_a_plan_applied_without_a_word_about_a_backup_is_answered_by_both_commands(refused: Refused, plan: str) -> None:
    answer = refused("apply", plan, "--watch", says="there is no backup", code=3)
    ways = f"next: vecfleet apply {plan} --watch --backup\n  or: vecfleet apply {plan} --watch --no-backup\n"
    assert answer.err.endswith(ways)


def test_who_names_no_owner_is_told_the_options_that_name_one(refused: Refused, brain: Brain) -> None:
    answer = refused("plan", "creators", "brain", says="nothing names the owners", code=2)
    assert all(option in answer.err for option in ("--creator", "--ownership", "--list"))


def test_a_program_is_told_in_the_last_line_what_was_wrong(vecfleet: Vecfleet, database: Database) -> None:
    answer = vecfleet("status", "--json")
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert answer.code == 2 and error["code"] == "no-command-line" and error["next_step"] == "vecfleet jobs"
    assert "JOB" in error["message"]
    # Also of a fault that nobody foresaw
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job DROP COLUMN reason")
    answer = vecfleet("jobs", "--json")
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert answer.code == 70 and "ProgrammingError" in error["message"] and "cli.log" in error["next_step"]


def test_an_index_that_is_not_there(refused: Refused) -> None:
    refused("plan", "creators", "brian", "--creator", "ana", says="no index 'brian'.*there are: brain", code=2)
    refused("audit", "brian", says="no index 'brian'.*did you mean 'brain'", code=2)


def test_a_misspelt_name_is_answered_by_the_nearest_one(
    refused: Refused, brain: Brain, table: JobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.apply(plan_of(planned("s", "t", 5)))
    refused("status", "12", says="there is no job 12; the newest is job 1", code=2)
    refused("pause", "12", says="there is no job 12; the newest is job 1", code=2)
    refused("plan", "namespaces", "brain", "frist=x", says="matches 'frist'.*did you mean 'first'", code=2)
    refused("plan", "index", "brain", "x", "--namespace", "frist", says="'frist'.*did you mean 'first'", code=2)
    refused("plan", "index", "brain", "x", "--skip", "secnd", says="'secnd'.*did you mean 'second'", code=2)
    refused("check", "pinecone:brain/frist", "pinecone:brain/second", says="did you mean 'first'", code=2)
    refused("check", "pinecone:brain", "paquet:x", says="no store 'paquet' here; did you mean 'parquet'", code=2)
    refused("analyze", "brain", "--namespace", "frist", says="no namespace 'frist'.*did you mean 'first'", code=2)
    # A plan file, a folder, an account
    Path("mine.yaml").write_text("x")
    refused("show", "mien.yaml", says="no plan file mien.yaml; did you mean 'mine.yaml'", code=2)
    accounts = tmp_path / "accounts.toml"
    accounts.write_text('[eu]\napi_key = "k"\n')
    accounts.chmod(0o600)
    monkeypatch.setenv("PINECONE_CONNECTIONS", str(accounts))
    refused("audit", "pinecone@eus:brain", says="no account 'pinecone@eus' here.*did you mean 'pinecone@eu'", code=2)


def test_a_plan_file_that_is_missing(refused: Refused) -> None:
    refused("apply", "nowhere.yaml", "--no-backup", says="no plan file nowhere.yaml", code=2)
    refused("show", "nowhere.yaml", says="no plan file nowhere.yaml", code=2)


def test_a_plan_file_that_is_malformed(refused: Refused) -> None:
    Path("torn.yaml").write_text("moves: [")
    Path("other.yaml").write_text("recipe: pancakes\n")
    refused("apply", "torn.yaml", "--no-backup", says="torn.yaml is not a plan: it is not YAML", code=2)
    # Nor is any other file that a person has at hand
    Path("README.md").write_text("# vecfleet\n\nMoves vectors.\n")
    answer = refused("apply", "README.md", "--no-backup", says="README.md is not a plan: it names no moves", code=2)
    assert "next: name a file that `vecfleet plan` wrote" in answer.err
    refused("apply", "other.yaml", "--no-backup", says="other.yaml is not a plan", code=2)


def test_a_plan_edited_after_its_digest(refused: Refused, plan: str) -> None:
    Path(plan).write_text(Path(plan).read_text().replace("creator_ana_twin_first", "creator_eve_twin_first"))
    refused("apply", plan, "--no-backup", says="does not match its digest", code=2)


def test_a_plan_made_for_another_index(refused: Refused, plan: str, brain: Brain) -> None:
    # Given the index was replaced by one of another dimension
    brain.drop()
    brain.create(dimension=8)
    refused("apply", plan, "--no-backup", says="made for an index 'brain' with dimension 4; it has 8", code=3)


def test_a_source_namespace_gone_since_planning(refused: Refused, plan: str, brain: Brain) -> None:
    brain.clear("second")
    refused("apply", plan, "--no-backup", says="gone since the plan was made: 'second'", code=3)
    refused("apply", plan, "--dry-run", says="gone since the plan was made: 'second'", code=3)


def test_a_source_namespace_grown_since_planning(refused: Refused, plan: str, brain: Brain) -> None:
    brain.write("second", "b-3")
    refused("apply", plan, "--no-backup", says=r"changed since.*'second' \(2 when planned, 3 now\)", code=3)


def test_a_target_that_is_not_empty(refused: Refused, plan: str, brain: Brain) -> None:
    # Given somebody wrote to a target since
    brain.write("creator_ana_twin_first", "z-1")
    refused("apply", plan, "--no-backup", says="not empty .*creator_ana_twin_first", code=3)
    # And the same is said when a plan is made
    refused("plan", "creators", "brain", "--creator", "ana", says="not empty .*creator_ana_twin_first", code=2)


def test_two_sources_with_a_common_id_into_one_target(refused: Refused, brain: Brain) -> None:
    brain.write("second", "a-1")
    Path("list.csv").write_text("namespace,creator,twin\nfirst,ana,one\nsecond,ana,one\n")
    refused("plan", "creators", "brain", "--list", "list.csv", says="(?s)creator_ana_twin_one.*'a-1'", code=2)


def test_namespaces_that_are_not_there_lead_to_those_that_are(refused: Refused) -> None:
    answer = refused("plan", "namespaces", "brain", "nope=other", says="(?s)no namespace .* matches 'nope'", code=2)
    assert "`vecfleet audit brain` lists what is there" in answer.err


def test_an_owner_nobody_knows(refused: Refused) -> None:
    Path("owners.csv").write_text("id,creator_id,name\nfirst,ana,one\n")
    refused("plan", "creators", "brain", "--ownership", "owners.csv", says="nobody is known to own 'second'", code=2)


def test_an_owner_named_twice(refused: Refused) -> None:
    Path("owners.csv").write_text("id,creator_id,name\nfirst,ana,one\nfirst,eve,one\nsecond,ana,two\n")
    words = ("plan", "creators", "brain", "--ownership", "owners.csv")
    refused(*words, says="(?s)'first' is given as .*creator 'ana' and as .*creator 'eve'", code=2)


def test_redis_down(refused: Refused, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    refused("apply", plan, "--no-backup", says="Redis does not answer", code=4)


def test_postgres_down(refused: Refused, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    for words in (("apply", plan, "--no-backup"), ("jobs",), ("status", "1"), ("cleanup", "1", "--yes")):
        refused(*words, says="the job table does not answer", code=4)


def test_a_schema_that_is_behind(
    refused: Refused, plan: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    answer = refused("apply", plan, "--no-backup", says="schema is at revision none", code=4)
    assert "vecfleet migrate" in answer.err


def test_nothing_set_at_all(refused: Refused, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "none")
    answer = refused("jobs", says="DATABASE_URL is not set", code=2)
    assert "vecfleet up" in answer.err
    # And who has no key is led to a stack that may run already
    monkeypatch.delenv("PINECONE_API_KEY")
    answer = refused("audit", says="PINECONE_API_KEY is not set", code=2, table=False)
    assert 'eval "$(vecfleet up --print)"' in answer.err


def test_the_same_plan_applied_twice(vecfleet: Vecfleet, refused: Refused, plan: str) -> None:
    assert vecfleet("apply", plan, "--no-backup").code == 0
    refused("apply", plan, "--no-backup", says="job 1 runs this very plan now", code=3)


def test_applying_without_a_way_back(refused: Refused, plan: str) -> None:
    answer = refused("apply", plan, says="no backup", code=3)
    assert "--no-backup" in answer.err


def test_a_job_that_does_not_exist(refused: Refused) -> None:
    for words in (
        *(("status", "7"), ("report", "7"), ("park", "list", "7"), ("verify", "7"), ("retry", "7", "failed")),
        *(("cleanup", "7", "--yes"), ("rollback", "7", "--yes"), ("cancel", "7", "--yes"), ("set", "7", "pace", "1")),
        *(("purge", "--job", "7"), ("purge", "--job", "7", "--dry-run")),
        *(("pause", "7"), ("resume", "7"), ("reverse", "7"), ("cutover", "7", "--percent", "5")),
    ):
        refused(*words, says="there is no job 7", code=2)


def test_a_destructive_command_without_a_yes(vecfleet: Vecfleet, refused: Refused, plan: str) -> None:
    assert vecfleet("apply", plan, "--no-backup").code == 0
    # When nobody is at the terminal
    answer = refused("cancel", "1", says="needs a confirmation", code=3)
    # Then what it would do was shown
    assert "gives job 1 up for good" in answer.out


def test_a_stack_without_workers_is_told_with_the_way_to_have_some(
    vecfleet: Vecfleet, environment: dict[str, str], plan: str
) -> None:
    # Given a stack that runs here, and a job
    home = Path(environment["VECFLEET_HOME"])
    home.mkdir(exist_ok=True)
    StackRecord(Process.current("supervisor"), durable=True, ready=True).write(home)
    assert vecfleet("apply", plan, "--no-backup").code == 0
    # When its workers are sent home
    answer = vecfleet("set", "1", "workers", "0")
    # Then it is told whose workers they are, and how to have some again
    assert answer.out.splitlines() == [
        "the stack has 0 worker processes now, for all its jobs",
        "next: vecfleet set 1 workers 2",
    ]


def test_levers_out_of_range(vecfleet: Vecfleet, refused: Refused, plan: str) -> None:
    assert vecfleet("apply", plan, "--no-backup").code == 0
    refused("set", "1", "pace", "1.5", says="a pace of 1.5 is not possible", code=2)
    refused("set", "1", "window", "0", says="a window of 0 is not possible", code=2)
    refused("set", "1", "budget", "0", says="(?s)budget of 0 is not possible.*vecfleet set 1 budget 3", code=2)
    refused("set", "1", "window", "3", "--target", "t", says="window belongs to the job, not to a target", code=2)
    refused("set", "1", "missing", "3", "--target", "t", says="'t' is no target of job 1", code=2)
    refused("set", "1", "workers", "3", says="no stack of `vecfleet up` runs here", code=3)
    refused("cutover", "1", "--percent", "120", says="120 % is not a share", code=2)


def test_levers_that_are_no_numbers(refused: Refused) -> None:
    refused("cutover", "1", "--percent", "abc", says="(?s)'abc' is not a share of twins.*--percent 25", code=2)
    for word in ("x", "nan", "inf"):
        refused("set", "1", "window", word, says=f"(?s)'{word}' is not a number.*vecfleet set 1 window 24", code=2)
    refused("set", "1", "missing", "few", says="(?s)'few' is not a number.*vecfleet set 1 missing 20", code=2)


def test_an_unexpected_fault_is_one_sentence_and_the_log_has_the_rest(
    vecfleet: Vecfleet, database: Database, environment: dict[str, str]
) -> None:
    # Given a job table that somebody broke
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job RENAME COLUMN salt TO pepper")
        connection.exec_driver_sql("ALTER TABLE job DROP COLUMN reason")
    # When a job is looked at
    answer = vecfleet("jobs")
    # Then
    assert answer.code == 70
    assert "ProgrammingError" in answer.err and "Traceback" not in answer.err
    log = Path(environment["VECFLEET_HOME"]) / "logs" / "cli.log"
    assert str(log) in answer.err
    assert "Traceback" in log.read_text()


def test_where_its_own_folder_cannot_be_had_it_logs_in_a_file_that_nobody_foresaw(
    vecfleet: Vecfleet, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a folder for temporary files, where somebody laid a link under the name that was used before
    temporary, theirs = tmp_path / "temporary", tmp_path / "theirs"
    temporary.mkdir()
    (temporary / "vecfleet-cli.log").symlink_to(theirs)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    # And no folder of our own, and a job table that somebody broke
    monkeypatch.setenv("VECFLEET_HOME", "/dev/null/home")
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job DROP COLUMN reason")
    # When two commands fail
    for _ in range(2):
        answer = vecfleet("jobs")
        assert answer.code == 70, answer.err
    # Then each has a file of its own, which only its owner may read, and the link led nowhere
    logs = [path for path in temporary.iterdir() if not path.is_symlink()]
    assert len(logs) == 2
    assert all("Traceback" in log.read_text() and log.stat().st_mode & 0o077 == 0 for log in logs)
    assert any(str(log) in answer.err for log in logs)
    assert not theirs.exists()


@pytest.mark.parametrize("word", ["abc", "0", "1.5", "plan.yaml", "9" * 30])
def test_what_is_no_job(refused: Refused, word: str) -> None:
    """Every command that takes one says the same sentence, and nothing of how numbers are read."""
    taking = [words for words, where in COMMANDS.items() if takes_a_job(where)]
    assert len(taking) > 15
    for words in taking:
        more = {"set": ("window", "3"), "retry": ("failed",)}.get(words, ())
        answer = refused(
            *words.split(), word, *more, says=re.escape(f"{word!r} is not a job: JOB is the number"), code=2
        )
        # And no number is named: there may be no such job, or it is another one
        assert answer.err.endswith("`vecfleet apply` printed\nnext: `vecfleet jobs` lists them\n")
    refused("purge", "--job", word, "--dry-run", says="is not a job", code=2)


def test_with_json_an_error_is_one_line_of_json_with_its_code(
    vecfleet: Vecfleet, brain: Brain, database: Database
) -> None:
    answer = vecfleet("status", "99", "--json")
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert (answer.code, answer.out) == (2, "")
    assert error == {
        "code": "not-found",
        "message": "there is no job 99; there are none yet",
        "next_step": "`vecfleet jobs` lists them",
    }


def takes_a_job(where: str) -> bool:
    module, _, function = where.partition(":")
    command = getattr(import_module(f"orchestrator.cli.{module}"), function)
    return any(parameter.annotation == JobId for parameter in inspect.signature(command).parameters.values())
