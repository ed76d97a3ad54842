"""Options of Flower, for `vecfleet flower` and for plain `celery -A workers flower`.

Flower runs this file and takes each name that is one of its options; the command line overrides it. By default Flower
listens on every network interface without a password and would show every namespace's name to anybody.
"""

import ast
import re
import secrets
import sys

from celery.events.state import Task
from flower.urls import handlers
from flower.views import BaseHandler
from tornado.web import authenticated

from orchestrator.core.wording import after_another_run, went_on
from vecfleet.settings import Settings

_settings = Settings.load()

if _settings.flower_password:
    _password = _settings.flower_password.get_secret_value()
else:
    _password = secrets.token_urlsafe(16)
    sys.stderr.write(f"Flower: FLOWER_PASSWORD is not set; user {_settings.flower_user}, password {_password}\n")

_page = (_settings.web_url or "").rstrip("/")

address = "127.0.0.1"
port = _settings.flower_port
basic_auth = [f"{_settings.flower_user}:{_password}"]
# `vecfleet` retries, revokes and shuts down, because it writes these acts into the job table.
read_only = True
# Each start of a worker has its own name: Flower forgets the figures of a stopped one after an hour.
purge_offline_workers = 3_600
max_workers = 500
# About 7 KB each: 140 MB. Progress is in the job table; Flower shows the last few minutes.
max_tasks = 20_000
# The uuid is the link to the task: it must be seen without scrolling.
tasks_columns = "name,kwargs,state,result,uuid,received,runtime,worker"


def _copy(task: Task) -> Task:
    """Copy a task as Flower does before it is formatted, but with its children, which Celery's own copy lacks."""
    twin = Task.__new__(Task)
    vars(twin).update(vars(task))
    return twin


Task.__copy__ = _copy

_TASK_ID = re.compile(r"(?P<of_batch>j(?P<job>\d+)\..+\.b(?P<batch>\d+)\.g)(?P<generation>\d+)")
_BATCH_PAGE = "batch {batch} of job {job}"
_FOUND_THERE = {"RETRY": ": why", "FAILURE": ": why, and Retry"}


def format_task(task: Task) -> Task:
    """Write the arguments as a sentence, and lead to the batch's page. Leave other tasks unchanged.

    The number comes first: Flower cuts long names. It escapes whatever it shows, and makes links only of the tasks that
    a task belongs to: so its root is the page of its batch.
    """
    try:
        shown = ast.literal_eval(task.kwargs)
        which = "whole namespace" if shown["batch"] == "whole" else f"batch {shown['batch']}"
        task.kwargs = f"job {shown['job']} · {which} · {shown['namespace']}"
    except (ValueError, SyntaxError, TypeError, KeyError):
        return task
    numbers = _TASK_ID.fullmatch(task.uuid or "")
    ran_again = numbers is not None and _ran_again(task, numbers)
    found_there = ": why" if ran_again and task.state in _FOUND_THERE else _FOUND_THERE.get(task.state, "")
    task.root_id = _BATCH_PAGE.format_map(numbers.groupdict()) + found_there if numbers and _page else None
    if task.result:
        task.result = after_another_run(task.result) if ran_again else task.result + went_on(len(task.children))
    task.exception = None  # the same sentence as the result
    # Flower would show an object, and a row without children.
    task.root, task.children = None, task.children or None
    return task


def _ran_again(task: Task, numbers: re.Match[str]) -> bool:
    """Say whether a later generation of the same batch began while Flower watched."""
    later = f"{numbers['of_batch']}{int(numbers['generation']) + 1}"
    return task.cluster_state is not None and later in task.cluster_state.tasks


class _BatchPage(BaseHandler):  # type: ignore[misc]
    """Lead from Flower's link to the batch on the operator's page."""

    @authenticated
    def get(self, batch: str, job: str) -> None:
        self.redirect(f"{_page}/jobs/{job}/batches/{batch}")


if _page:
    handlers.insert(0, (r"/task/batch%20(\d+)%20of%20job%20(\d+).*", _BatchPage))
