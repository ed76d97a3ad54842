"""The audit trail: what people did and what was destroyed, and whether anybody changed the record of it."""

from orchestrator.cli.output import Json, say, say_json, say_next
from orchestrator.cli.session import fleet
from orchestrator.ledger import audit
from vecfleet.errors import Refused


def verify(as_json: Json = False) -> None:
    """Walk the chain of the audit trail from its first row. Read-only; 0 only if no row was changed or is missing."""
    with fleet() as parts, parts.database.begin() as connection:
        chain = audit.walk(connection)
    steps = ["vecfleet jobs"]
    if as_json:
        facts = {"sealed": chain.sealed, "unsealed": chain.unsealed, "head": chain.head, "broken": chain.broken}
        say_json(facts | {"next_steps": steps})
    elif chain.broken is None:
        say(f"{chain.sealed} rows hang together; head {chain.head or 'none yet'}")
        if chain.unsealed:
            say(f"{chain.unsealed} more wait for the dispatcher to seal them")
        say_next(steps)
    if chain.broken is not None:
        raise Refused(
            f"the audit trail is broken after {chain.sealed} rows: {chain.broken}",
            next_step="compare with the head hashes in earlier reports, and find out who writes to the job table",
        )
