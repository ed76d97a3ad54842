"""What Flower shows and to whom: `celery -A orchestrator.queue flower --conf=orchestrator/flower_settings.py`.

Flower runs this file and takes each name that is one of its options; the command line wins over it. Its default is
every network interface and no password, which would show every namespace's name to whoever finds the port.
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
# Retrying, revoking and shutting down belong to `vecfleet`, which writes them into the job table.
read_only = True
# Each start of a worker has a name of its own: the figures of one that is gone are forgotten after an hour.
purge_offline_workers = 3_600
max_workers = 500
# About 7 KB each: 140 MB. Progress is in the job table; this is for looking at the last few minutes.
max_tasks = 20_000
tasks_columns = "name,kwargs,state,received,runtime,worker,uuid"


def format_task(task: Task) -> Task:
    """The arguments as a sentence: job, namespace, batch i of n, the job's page. Anything else stays as it was sent."""
    try:
        shown = ast.literal_eval(task.kwargs)
        page = f" · {_page}/jobs/{shown['job']}" if _page else ""
        task.kwargs = f"job {shown['job']} · {shown['namespace']} · batch {shown['batch']}{page}"
    except (ValueError, SyntaxError, TypeError, KeyError):
        return task
    return task
