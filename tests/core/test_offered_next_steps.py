"""The buttons of a job's page: whatever `next:` names for a job can be done there, or is named as a command to type."""

import dataclasses
import re
from pathlib import Path

import pytest
from readings import STARTED, policies, reading, totals
from test_next_steps import OF_ATTENTION, OF_STATES

from orchestrator.core import next_steps as module
from orchestrator.core.next_steps import next_steps
from orchestrator.core.progress import progress
from orchestrator.core.reading import Reading
from orchestrator.core.states import JobState
from orchestrator.web import pages
from orchestrator.web.acting import ACTS, Confirmation
from orchestrator.web.offering import SHOWN_HERE, TYPED, act_of, actions, command
from orchestrator.web.sessions import Session

SEEN = [seen for seen, _ in OF_STATES] + [reading(JobState.NEEDS_ATTENTION, **given) for given, _ in OF_ATTENTION]


def names_of(seen: Reading, decided: int = 0) -> list[str]:
    return list(dict.fromkeys(action.name for action in actions(seen, decided)))


@pytest.mark.parametrize("seen", SEEN)
def test_each_next_step_is_a_button_or_a_part_of_the_page_or_a_command_to_type(seen: Reading) -> None:
    offered = {(action.name, action.field): action for action in actions(seen)}
    for step in next_steps(seen):
        act = act_of(step)
        if act is None:
            verb, _ = command(step)
            assert verb in SHOWN_HERE | TYPED, step
        else:
            assert act in offered and act[0] in ACTS, step
            assert offered[act].label


def test_no_verb_of_the_next_steps_is_missing_from_the_table() -> None:
    source = Path(module.__file__).read_text()
    chosen = {word for pair in re.findall(r"vecfleet {'(\w+)' if .+ else '(\w+)'}", source) for word in pair}
    written = chosen | set(re.findall(r"vecfleet (park \w+|[a-z]+) ?", source)) - {"set"}
    known = {command(step)[0] for seen in SEEN for step in next_steps(seen)}
    assert written - known == {"dispatcher", "worker"}  # of a fleet that is not there
    assert known <= written | {"set", "plan"}  # the plan's own command


def test_a_page_names_every_command_to_type() -> None:
    seen = reading(JobState.RUNNING, led=False)
    assert next_steps(seen)[0] == "vecfleet dispatcher"
    look = type("Look", (), {"progress": progress(seen)})
    assert "<code>vecfleet dispatcher</code>" in pages.text("part_steps.html", look=look)


def test_what_is_parked_is_decided_on_before_anything_else() -> None:
    seen = reading(
        JobState.NEEDS_ATTENTION, parked_batches=2, undecided=1_500, confirmations=("vecfleet set 7 missing 4",)
    )
    labels = [action.label for action in actions(seen, decided=3)]
    assert labels[:4] == [
        "Retry all 2 failed batches",
        "Copy 1,500 parked records again",
        "Leave all 1,500 parked records behind",
        "Confirm that 4 records are missing in a source",
    ]
    assert "Take back what stays behind" in labels


def test_a_copy_that_is_kept_in_step_has_its_next_pass_first() -> None:
    kept = reading(JobState.VERIFIED, recipe="index", policies=policies(cut_over="none", writers="delta"))
    first, *_ = actions(kept)
    assert (first.name, first.label, first.likeliest) == ("pass", "Another pass", True)
    # Of a plan that stops the writers there is none
    assert "pass" not in names_of(reading(JobState.VERIFIED))


def test_what_a_clean_up_left_can_be_kept_by_a_button() -> None:
    assert "finish" in names_of(reading(JobState.NEEDS_ATTENTION, resume_to=JobState.CLEANING, parked_batches=1))


def test_a_button_stands_out_only_if_it_does_what_the_next_step_says() -> None:
    """The page of a verified copy proposed to move its readers, the terminal to finish it."""
    copied = reading(JobState.VERIFIED, recipe="namespaces")
    assert next_steps(copied)[0] == "vecfleet finish 7"
    assert [action.name for action in actions(copied) if action.likeliest] == []
    # And what deletes nothing is not drawn as what does
    drawn = {action.name: action.deletes for action in actions(copied)}
    assert drawn["rollback"] and drawn["cleanup"] and not drawn["finish"] and not drawn["cancel"]


@pytest.mark.parametrize(("act", "red"), [("cleanup", True), ("rollback", True), ("finish", False), ("cancel", False)])
def test_only_a_question_before_a_deletion_has_a_red_button(act: str, red: bool) -> None:
    question = Confirmation(act, "Really?", "It does.", (), 0, None, "Do it")
    shown = {"session": Session("ana", True, "a proof"), "job": reading().job, "question": question}
    assert f'<button class="{"danger" if red else "main"}">Do it' in pages.text("confirm.html", **shown)


@pytest.mark.parametrize("seen", SEEN)
def test_at_most_one_button_stands_out_and_none_that_deletes_or_leaves_behind(seen: Reading) -> None:
    standing_out = [action for action in actions(seen) if action.likeliest]
    assert len(standing_out) <= 1
    assert not {action.name for action in standing_out} & {"cleanup", "rollback", "finish", "cancel", "accept"}


def test_the_buttons_of_one_act_stand_together_in_their_order() -> None:
    percents = [action.percent for action in actions(reading(JobState.VERIFIED, cut_over_percent=5)) if action.percent]
    assert percents == [25, 50, 100]
    names = [action.name for action in actions(reading(JobState.VERIFIED, cut_over_percent=5))]
    assert names[:3] == ["cutover"] * 3 and names[3] == "reverse"


@pytest.mark.parametrize(
    ("seen", "offered"),
    [
        (reading(JobState.RUNNING), ["pause", "cancel"]),
        (reading(JobState.PAUSED), ["resume", "cancel"]),
        (
            reading(JobState.VERIFIED, cut_over_percent=25),
            ["cutover", "cutover", "reverse", "verify", "cleanup", "finish", "rollback", "cancel"],
        ),
        (
            reading(JobState.CUT_OVER, cut_over_percent=100, cut_over_at=STARTED),
            ["cleanup", "reverse", "finish", "verify", "rollback"],
        ),
        (reading(JobState.NEEDS_ATTENTION), ["verify", "rollback", "cleanup", "cancel"]),
        (reading(JobState.CLEANED, cut_over_percent=100), []),
        (reading(JobState.ROLLED_BACK), []),
    ],
)
def test_a_job_offers_what_its_state_allows_the_next_steps_first(seen: Reading, offered: list[str]) -> None:
    assert [action.name for action in actions(seen)] == offered


@pytest.mark.parametrize("state", JobState)
def test_an_ended_job_decides_nothing_any_more(state: JobState) -> None:
    names = names_of(reading(state, undecided=1, totals=totals(left_behind=1)), decided=1)
    ended = state in (JobState.CLEANED, JobState.FINISHED, JobState.CANCELLED, JobState.ROLLED_BACK)
    assert bool({"accept", "undo"} & set(names)) is not ended


def test_every_act_of_the_page_is_one_that_it_offers() -> None:
    some = {name for seen in SEEN for name in names_of(seen, 1)}
    some |= set(names_of(reading(JobState.RUNNING, undecided=1)))
    assert set(ACTS) - some == {"comment", "accept-batch"}  # these stand beside what they are about


def test_an_action_is_told_apart_by_what_it_sends() -> None:
    for seen in SEEN:
        keys = [(action.name, action.field) for action in actions(seen)]
        assert len(keys) == len(set(keys)), dataclasses.asdict(seen.job)
