"""`purge`, `audit-log` and `notices`: what is kept of ended jobs, the record of what people did, who is told of it."""

import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.output import Json, Yes, confirm, job_number, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.core.wording import counted, in_days
from orchestrator.ledger import audit, jobs, retention
from orchestrator.ledger import notices as queue
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.retention import Ended
from orchestrator.services.purge import LEAST_DAYS
from orchestrator.services.purge import purge as let_go
from vecfleet.errors import BadInput, Refused
from vecfleet.settings import Settings

_DAYS = 30.0


def purge(
    older_than: Annotated[
        float, typer.Option(min=LEAST_DAYS, metavar="DAYS", help="Jobs that ended at least so many days ago.")
    ] = _DAYS,
    job: Annotated[int | None, typer.Option(metavar="JOB", parser=job_number, help="Only this one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete ids, digests and batches of jobs that ended; reports, the audit and the way back stay."""
    with fleet() as parts:
        with parts.database.begin() as connection:
            if job is not None:
                jobs.get(connection, job)
            ended = retention.ended(connection, older_than, job)
        going = [row for row in ended if row.stays is None]
        if as_json:
            if not dry_run and not yes:
                raise Refused(
                    "this needs a confirmation, and --json asks no question",
                    code="answer-missing",
                    next_step="add --yes, or --dry-run",
                )
        else:
            _show(ended, older_than)
        if dry_run or not going:
            _end(ended, {}, _steps(older_than, job, going), as_json=as_json)
            return
        confirm("Delete them?", yes=yes)
        deleted = {row.job_id: let_go(parts.database, row.job_id, who()) for row in going}
    _end(ended, deleted, [f"vecfleet report {going[0].job_id}"], as_json=as_json)


def _steps(days: float, job: int | None, going: list[Ended]) -> list[str]:
    """Return the command that deletes just what was shown; without anything to delete, one that shows more."""
    only = ["--job", str(job)] if job is not None else []
    if going:
        return [shlex.join(["vecfleet", "purge", "--older-than", f"{days:g}", *only, "--yes"])]
    if days > LEAST_DAYS:
        return [shlex.join(["vecfleet", "purge", "--older-than", f"{LEAST_DAYS:g}", *only, "--dry-run"])]
    return ["vecfleet jobs"]


def _show(ended: list[Ended], days: float) -> None:
    if not ended:
        say(f"no job that ended {in_days(days)} ago or earlier has anything to delete")
        return
    rows = [
        (job.job_id, job.state, job.source, f"{job.ended_at:%Y-%m-%d}", f"{job.batches:,}", _size(job), job.stays)
        for job in ended
    ]
    say_table((">job", "state", "source", "ended", ">batches", ">ids and digests", "stays, for"), rows)


def _size(job: Ended) -> str:
    return f"{job.bytes / 1e6:,.1f} MB"


def _end(ended: list[Ended], deleted: dict[int, int], steps: list[str], *, as_json: bool) -> None:
    if as_json:
        jobs = [
            {
                "job": job.job_id,
                "state": job.state,
                "ended_at": job.ended_at,
                "batches": job.batches,
                "bytes": job.bytes,
                "stays": job.stays,
                "deleted": deleted.get(job.job_id, 0),
            }
            for job in ended
        ]
        say_json({"jobs": jobs, "next_steps": steps})
        return
    for job_id, count in deleted.items():
        say(f"job {job_id}: {counted(count, 'batch', 'batches')} deleted; its report and its way back stay")
    say_next(steps)


_NO_KEY = "sealed without a key: whoever writes to the job table could have made all of it; set AUDIT_KEY"


def verify(
    head: Annotated[
        str | None, typer.Option(help="The head that a report, a certificate or a dispatcher's log shows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the audit trail from its first row. Read-only; 0 only if no row was changed or is missing."""
    with fleet() as parts, parts.database.begin() as connection:
        chain = audit.walk(connection, Seals.of(parts.settings.audit_key), head)
    keyed = audit.with_key(chain.head)
    steps = ["vecfleet jobs"]
    if as_json:
        facts = {"sealed": chain.sealed, "unsealed": chain.unsealed, "head": chain.head, "broken": chain.broken}
        say_json(facts | {"with_key": keyed, "next_steps": steps})
    elif chain.broken is None:
        say(f"{counted(chain.sealed, 'row hangs', 'rows hang')} together; head {chain.head or 'none yet'}")
        if chain.head and not keyed:
            say(_NO_KEY)
        if head is not None:
            say("the given head is one of them: nothing before it was changed since")
        if chain.unsealed:
            say(f"{counted(chain.unsealed, 'more waits', 'more wait')} for the dispatcher to seal them")
        say_next(steps)
    if chain.broken is not None:
        raise Refused(
            f"the audit trail is broken after {counted(chain.sealed, 'row', 'rows')}: {chain.broken}",
            code="audit-broken",
            next_step="docs/security.md says what that may mean, and with which earlier heads to compare",
        )


def lock() -> None:
    """From now on, seal with AUDIT_KEY an audit trail that was sealed without a key. Safe to repeat."""
    with fleet() as parts, parts.database.begin() as connection:
        seals = Seals.of(parts.settings.audit_key)
        if not seals:
            raise BadInput(
                "AUDIT_KEY is not set", next_step="set it, for the dispatcher too: `openssl rand -hex 32` makes one"
            )
        rows = audit.lock(connection, seals, who())
        head = audit.head(connection)
    sealed = f"{counted(rows, 'row is', 'rows are')} sealed with the key from here on; head {head}"
    say(sealed if rows else "nothing is sealed without a key")
    say_next(["vecfleet audit-log verify"])


def notices(
    again: Annotated[
        bool, typer.Option("--again", help="Send everything that waits now, including notices given up.")
    ] = False,
    test: Annotated[
        str | None,
        typer.Option(metavar="RECEIVER", help="Only send a made-up notice to this receiver of VECFLEET_HOOKS, now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who is notified of changes of state, which notices wait, and why."""
    if test is not None:
        from orchestrator.services.notices import try_out

        try_out(Settings.load(), test)
        steps = ["vecfleet notices"]
        if as_json:
            say_json({"taken_by": test, "next_steps": steps})
            return
        say(f"{test} accepted a made-up notice")
        say_next(steps)
        return
    with fleet() as parts, parts.database.begin() as connection:
        made_due = queue.again(connection) if again else 0
        receivers = queue.waiting(connection)
    failing = [row.receiver for row in receivers if row.given_up or row.answer]
    steps = [*(f"vecfleet notices --test {name}" for name in failing), "vecfleet notices --again"]
    steps = steps if failing else ["vecfleet jobs"]
    if as_json:
        rows = [{**asdict(row), "oldest": row.oldest and row.oldest.isoformat()} for row in receivers]
        say_json({"receivers": rows, "made_due": made_due, "next_steps": steps})
        return
    if again:
        say(f"{counted(made_due, 'notice is', 'notices are')} sent once more")
    if not receivers:
        say("nobody is notified: no dispatcher has started with a file in VECFLEET_HOOKS that names a receiver")
    else:
        say_table(
            ("receiver", "events", ">waiting", ">given up", "oldest", "last answer"),
            (
                (
                    row.receiver,
                    ", ".join(row.events),
                    row.waiting,
                    row.given_up,
                    f"{row.oldest:%Y-%m-%d %H:%M:%S}" if row.oldest else "",
                    row.answer,
                )
                for row in receivers
            ),
        )
    say_next(steps)
