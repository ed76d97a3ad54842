"""The text of a record that a plan embeds, and what the target of its vectors must be like."""

from typing import Any

import pytest

from migrations.embedding import Embedding, Gate, NoText, text_template
from vecfleet.errors import BadInput
from vecfleet.model_cards import ModelCard
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind

CARD = ModelCard(name="local/wordllama", revision="1", dimension=64)


def embedding(text: str = "{text}", **other: Any) -> Embedding:
    return Embedding(card=CARD, text=text, **other)


def test_the_text_is_one_key_or_a_template_of_several() -> None:
    assert embedding().text_of({"text": "hello", "page": 7.0}) == "hello"
    assert embedding("{title}: {text} (p. {page})").text_of({"title": "Sleep", "text": "hello", "page": 7.0}) == (
        "Sleep: hello (p. 7)"
    )


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        pytest.param({}, "it has no metadata key 'text', of which its text is made", id="lacking"),
        pytest.param({"text": 7.0}, "its metadata key 'text' holds no text", id="a number"),
        pytest.param({"text": ["a"]}, "its metadata key 'text' holds no text", id="a list"),
        pytest.param({"text": " \n"}, "its text is empty", id="blank"),
        pytest.param({"text": "half \ud83d"}, "its text holds half a character, which cannot be sent", id="surrogate"),
    ],
)
def test_a_record_without_text_says_why(metadata: dict[str, Any], reason: str) -> None:
    assert embedding().text_of(metadata) == NoText(reason)


def test_a_template_needs_all_of_its_keys_and_one_that_says_something() -> None:
    asked = embedding("{title}: {text}")
    assert asked.text_of({"title": "Sleep"}) == NoText("it has no metadata key 'text', of which its text is made")
    assert asked.text_of({"title": " ", "text": ""}) == NoText("its text is empty")


def test_the_target_has_the_dimension_and_metric_of_the_model() -> None:
    old = IndexInfo("brain", Kind.POD, 3072, "euclidean", host="h", schema={"fields": {"_values": {"dimension": 3072}}})
    made = embedding().made(old)
    assert (made.kind, made.dimension, made.metric) == (Kind.DENSE, 64, "cosine")
    assert made.schema == {"fields": {"_values": {"type": "dense_vector", "dimension": 64, "metric": "cosine"}}}


def test_sparse_values_go_along_into_an_index_of_both_kinds() -> None:
    fields = {"_values": {"type": "dense_vector", "dimension": 8}, "_sparse_values": {"type": "sparse_vector"}}
    made = embedding().made(IndexInfo("brain", Kind.HYBRID, 8, "dotproduct", host="h", schema={"fields": fields}))
    assert (made.kind, made.metric) == (Kind.HYBRID, "dotproduct")
    assert made.schema["fields"]["_sparse_values"] == {"type": "sparse_vector"}
    assert made.schema["fields"]["_values"]["dimension"] == 64


def test_a_record_without_text_is_copied_only_with_a_vector_of_the_new_dimension() -> None:
    copying = embedding(without_text="copy")
    assert copying.fits(Record("a", bytes(64 * 4)))
    assert not copying.fits(Record("a", bytes(8 * 4)))
    assert not embedding().fits(Record("a", bytes(64 * 4)))


def test_one_key_is_a_template_of_itself_and_a_template_names_keys() -> None:
    assert text_template("chunk_text", None) == "{chunk_text}"
    assert text_template(None, "{title}: {body}") == "{title}: {body}"


@pytest.mark.parametrize(
    ("key", "template", "why"),
    [
        (None, None, "must be named once"),
        ("a", "{a}", "must be named once"),
        ("a{b}", None, "cannot be a metadata key"),
        (None, "no key at all", "every record would have the same vector"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused(key: str | None, template: str | None, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        text_template(key, template)


def test_a_gate_is_part_of_the_plan() -> None:
    asked = embedding(gate=Gate(file="q.jsonl", digest="sha256:1", counts={"s": 2}, least_recall=0.5))
    assert Embedding.model_validate(asked.model_dump(mode="json")) == asked
