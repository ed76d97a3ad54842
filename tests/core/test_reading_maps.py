"""Asking for a metadata map: typed values, a file, and everything that no record can hold refused at once."""

from pathlib import Path
from typing import Any

import pytest

from migrations.mapping import MetadataMap
from migrations.mapreading import read_map
from migrations.plan import Policies
from vecfleet.errors import BadInput


def test_values_are_json_where_they_read_so_and_text_where_not(tmp_path: Path) -> None:
    typed = ["env=prod", "n=7", "share=0.5", "seen=true", 'tags=["a","b"]', 'id="7"', "code=007", "empty=", "a=b=c"]
    asked = read_map(tmp_path, sets=typed)
    assert asked is not None and asked.set == {
        "env": "prod",
        "n": 7,
        "share": 0.5,
        "seen": True,
        "tags": ["a", "b"],
        "id": "7",
        "code": "007",
        "empty": "",
        "a": "b=c",
    }


def test_a_file_and_options_make_one_map(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "set: {env: prod, year: 2024}\ndrop: [secret]\nrename: {old: new}\ncopy: {title: heading}\n"
        "template: {path: '{creator}/{title}'}\n"
    )
    asked = read_map(tmp_path, file="map.yaml", drops=["also"], undo="none")
    assert asked == MetadataMap(
        set={"env": "prod", "year": 2024},
        drop=("secret", "also"),
        rename={"old": "new"},
        copy={"title": "heading"},
        template={"path": "{creator}/{title}"},
        undo="none",
    )


def test_without_any_operation_there_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("set: {}\ndrop:\n")
    assert read_map(tmp_path) is None
    assert read_map(tmp_path, file="map.yaml") is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sets": ["x=null"]}, "'x' is set to null, which no record keeps; drop the key instead"),
        ({"sets": ['x={"a":1}']}, "something else than a text, a number, true, false or a list of texts"),
        ({"sets": ["x=[1]"]}, "something else than a text"),
        ({"sets": ["x=NaN"]}, "not a finite number"),
        ({"sets": ["x=1e999"]}, "not a finite number"),
        ({"sets": ["x=99999999999999999999"]}, "no store keeps exactly"),
        ({"sets": ['x="\\ud800"']}, "half a character"),
        ({"sets": ["migrated_from=x"]}, "the key 'migrated_from' is written by vecfleet itself"),
        ({"drops": ["_vecfleet_prev"]}, "the key '_vecfleet_prev' is written by vecfleet itself"),
        ({"renames": ["a=_vecfleet"]}, "the key '_vecfleet' is written by vecfleet itself"),
        ({"sets": ["$x=1"]}, "the key '$x' begins with $"),
        ({"drops": [""]}, "the key '' is empty"),
        ({"sets": ["x=1", "x=2"]}, "written more than once: 'x'"),
        ({"sets": ["x=1"], "renames": ["a=x"]}, "written more than once: 'x'"),
        ({"renames": ["a=b", "a=c"]}, "renamed more than once: 'a'"),
        ({"renames": ["a=a"]}, "renamed to itself: 'a'"),
        ({"sets": ["x"]}, "'x' does not say key and value"),
        ({"renames": ["=b"]}, "'=b' does not say key and value"),
        ({"sets": ["x=null", "$y=1"]}, "the key '$y' begins with $, which filters use; 'x' is set to null"),
    ],
)
def test_what_no_record_can_hold_is_refused_when_it_is_asked_for(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadInput) as caught:
        read_map(tmp_path, **options)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- set", "its parts are set, rename, copy, template"),
        ("sets: {a: 1}", "its parts are set, rename, copy, template"),
        ("drop: {a: 1}", "its parts are set, rename, copy, template"),
        ("set: [a]", "its parts are set, rename, copy, template"),
        ("set: {day: 2024-01-01}", "'day' is set to something else than a text"),
        ("set: {yes: 1}", "keys and templates are text, in quotes where YAML reads something else: 'True'"),
        ("template: {t: 7}", "keys and templates are text"),
        ("template: {t: plain}", "the template of 't' reads no key"),
        ("template: {t: '{a} {'}", "has a brace without its other"),
        ("template: {t: '{migrated_from}'}", "the key 'migrated_from' is written by vecfleet itself"),
        ("copy: {a: a}", "copied to itself: 'a'"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_map(tmp_path, file="map.yaml")
    assert why in caught.value.message


def test_a_plan_keeps_the_map_as_it_was_asked_for(tmp_path: Path) -> None:
    policies = Policies(metadata_map=read_map(tmp_path, sets=["n=1", "x=1.0", "t=1"], renames=["a=b"], drops=["c"]))
    read = Policies.model_validate_json(policies.model_dump_json())
    assert read == policies and read.metadata_map is not None and policies.metadata_map is not None
    assert [type(value) for value in read.metadata_map.set.values()] == [int, float, int]
    assert read.metadata_map.digest == policies.metadata_map.digest
