"""`plan reembed` as a person types it: shown with its model and cost, refused with what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from embedding_service import EmbeddingService, serving
from terminal import Brain, Vecfleet


@pytest.fixture
def texts(brain: Brain) -> Brain:
    """Records with texts."""
    brain.write("first", "a-1", "a-2", "a-3", text="what the creator said about sleep")
    brain.forget_calls()
    return brain


def test_a_plan_shows_its_model_its_text_its_cost_and_what_is_not_judged(vecfleet: Vecfleet, texts: Brain) -> None:
    made = vecfleet("plan", "reembed", "brain", "mind", "--text-key", "text", "--dimension", "64", "--out", "p.yaml")
    assert made.code == 0, made.err
    for answer in (made, vecfleet("show", "p.yaml")):
        assert "vectors: local/wordllama (" in answer.out and "64 dimensions, of '{text}'" in answer.out
        assert "different texts of" in answer.out and "tokens · $0.0000" in answer.out
        assert "quality: not judged, because no questions are named (--questions)" in answer.out
    assert "the old vectors do not travel" in made.out
    assert texts.writes() == set()


def test_questions_make_the_plan_ask_both_models(vecfleet: Vecfleet, texts: Brain) -> None:
    Path("q.jsonl").write_text('{"question": "hello?", "namespace": "first", "relevant": ["a-1"]}\n')
    answer = vecfleet(
        *("plan", "reembed", "brain", "mind", "--text-key", "text", "--questions", "q.jsonl", "--least-recall", "0.5"),
        "--json",
    )
    policies = answer.json["plan"]["policies"]
    assert policies["verify"] == "content+query"
    assert policies["embedding"]["gate"]["counts"] == {"first": 1}
    shown = vecfleet("show", answer.json["file"]).out
    assert "quality: 1 question of q.jsonl about 1 namespace: mean recall at least 50%" in shown


def test_texts_of_a_file_are_found_by_the_ids_of_the_records(vecfleet: Vecfleet, texts: Brain) -> None:
    Path("t.jsonl").write_text('{"chunk": "a-1", "body": "hello"}\n{"chunk": "a-2", "body": "there"}\n')
    words = ("plan", "reembed", "brain", "mind", "--text-key", "body", "--text-from", "t.jsonl")
    made = vecfleet(*words, "--text-id", "chunk", "--out", "p.yaml")
    assert made.code == 0, made.err
    assert "of '{body}' in t.jsonl" in made.out
    assert "sampled records would be parked: t.jsonl has no row of its id" in made.out
    wrong = vecfleet(*words, "--text-id", "body")
    assert wrong.code == 2 and "in the column 'body' (--text-id)" in wrong.err


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingService]:
    """A service of one's own, whose models have no list price."""
    with serving() as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        yield service


def test_the_price_and_the_limits_that_are_typed_are_those_of_the_estimate(
    vecfleet: Vecfleet, texts: Brain, service: EmbeddingService
) -> None:
    words = ("plan", "reembed", "brain", "mind", "--text-key", "text", "--model", "openai/a-model")
    # When a price and a pace are typed
    priced = vecfleet(*words, "--price", "1000000", "--requests-per-minute", "1", "--json").json["plan"]["estimate"]
    # Then a token costs a dollar, and a request takes a minute
    cost = priced["embedding"]
    assert cost["dollars"] == pytest.approx(cost["tokens"], abs=1) and cost["tokens"] > 0
    assert cost["seconds"] >= 60
    # And where neither the service nor a person names one, the figure says so
    free = vecfleet(*words, "--out", "free.yaml")
    assert free.code == 0, free.err
    assert "$0.0000 by no price, because none is known (--price names one)" in free.out


def test_a_cap_on_dollars_is_refused_where_no_price_is_known(
    vecfleet: Vecfleet, texts: Brain, service: EmbeddingService
) -> None:
    words = ("plan", "reembed", "brain", "mind", "--text-key", "text", "--model", "openai/a-model")
    refused = vecfleet(*words, "--dollars-cap", "5")
    assert refused.code == 2 and "the price of openai/a-model is not known" in refused.err
    assert "next: name it with --price" in refused.err
    assert vecfleet(*words, "--dollars-cap", "5", "--price", "0.02").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the text to embed must be named once"),
        (("--text-key", "text", "--text", "{text}"), "the text to embed must be named once"),
        (("--text", "nothing"), "every record would have the same vector"),
        (("--text-key", "body"), "has text: it has no metadata key 'body'"),
        (("--text-key", "text", "--model", "wordllama"), "names no provider of the model"),
        (("--text-key", "text", "--model", "local/other"), "there is no local model 'local/other'"),
        (("--text-key", "text", "--dimension", "7"), "cannot give 7 dimensions"),
        (("--text-key", "text", "--model", "openai/text-embedding-3-small"), "OPENAI_API_KEY"),
        (("--text-key", "text", "--model", "cohere/embed-v4.0"), "COHERE_API_KEY is not set"),
        (("--text-key", "text", "--model", "voyage/voyage-4", "--dimension", "7"), "cannot give 7 dimensions"),
        (("--text-key", "text", "--questions", "nowhere.jsonl"), "there is no file 'nowhere.jsonl'"),
        (("--text-key", "text", "--text-from", "nowhere.jsonl"), "there is no file 'nowhere.jsonl'"),
        (("--text-key", "text", "--text-from", "postgres:chunks"), "need TEXTS_DATABASE_URL"),
        (("--text-key", "text", "--text-from", "supabase:chunks"), "need SUPABASE_URL"),
        (("--text-key", "text", "--dollars-cap", "0"), "--dollars-cap"),
        (("--text-key", "text", "--writers", "dual"), "makes its own vectors of the new model"),
    ],
)
def test_what_cannot_be_embedded_is_refused_and_no_plan_is_written(
    vecfleet: Vecfleet, texts: Brain, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    answer = vecfleet("plan", "reembed", "brain", "mind", *words)
    assert answer.code == 2, answer
    assert says in answer.err
    assert "next: " in answer.err and "Traceback" not in answer.err
    assert not (tmp_path / "plans").exists()
