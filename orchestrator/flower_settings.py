"""Options of Flower: `celery -A orchestrator.queue flower --conf=orchestrator/flower_settings.py`.

Flower runs this file and takes each name that is one of its options; the command line overrides it. By default Flower
listens on every network interface without a password and would show every namespace's name to anybody.
"""

import ast
import secrets
import sys

from celery.events.state import Task

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
tasks_columns = "name,kwargs,state,received,runtime,worker,uuid"


def format_task(task: Task) -> Task:
    """Write the arguments as a sentence: job, namespace, batch i of n, the job's page. Leave other tasks unchanged."""
    try:
        shown = ast.literal_eval(task.kwargs)
        page = f" · {_page}/jobs/{shown['job']}" if _page else ""
        task.kwargs = f"job {shown['job']} · {shown['namespace']} · batch {shown['batch']}{page}"
    except (ValueError, SyntaxError, TypeError, KeyError):
        return task
    return task
