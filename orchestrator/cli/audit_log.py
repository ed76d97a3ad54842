"""Commands of the audit trail: what people did, what was destroyed, and whether anybody changed that record."""

from typing import Annotated

import typer

from orchestrator.cli.output import Json, say, say_json, say_next
from orchestrator.cli.session import fleet, who
from orchestrator.ledger import audit
from orchestrator.ledger.audit import Seals
from vecfleet.errors import BadInput, Refused

_NO_KEY = "sealed without a key: whoever writes to the job table could have made all of it; set AUDIT_KEY"


def verify(
    head: Annotated[
        str | None, typer.Option(help="The head that a report, a certificate or a dispatcher's log told.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Walk the chain of the audit trail from its first row. Read-only; 0 only if no row was changed or is missing."""
    with fleet() as parts, parts.database.begin() as connection:
        chain = audit.walk(connection, Seals.of(parts.settings.audit_key), head)
    keyed = audit.with_key(chain.head)
    steps = ["vecfleet jobs"]
    if as_json:
        facts = {"sealed": chain.sealed, "unsealed": chain.unsealed, "head": chain.head, "broken": chain.broken}
        say_json(facts | {"with_key": keyed, "next_steps": steps})
    elif chain.broken is None:
        say(f"{chain.sealed} rows hang together; head {chain.head or 'none yet'}")
        if chain.head and not keyed:
            say(_NO_KEY)
        if head is not None:
            say("the head that was given is one of them: nothing up to it was changed since")
        if chain.unsealed:
            say(f"{chain.unsealed} more wait for the dispatcher to seal them")
        say_next(steps)
    if chain.broken is not None:
        raise Refused(
            f"the audit trail is broken after {chain.sealed} rows: {chain.broken}",
            next_step="docs/security.md says what that may mean, and with which earlier heads to compare",
        )


def lock() -> None:
    """Seal with AUDIT_KEY from here on what was sealed without a key so far. Safe to repeat."""
    with fleet() as parts, parts.database.begin() as connection:
        seals = Seals.of(parts.settings.audit_key)
        if not seals:
            raise BadInput(
                "AUDIT_KEY is not set", next_step="set it, for the dispatcher too: `openssl rand -hex 32` makes one"
            )
        rows = audit.lock(connection, seals, who())
        head = audit.head(connection)
    say(f"{rows} rows are sealed with the key from here on; head {head}" if rows else "nothing is sealed without a key")
    say_next(["vecfleet audit-log verify"])
