"""The statements that Postgres is asked, and how it answers them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa


@dataclass
class Asked:
    """The statements that were asked, each with its parameters."""

    statements: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, _: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        self.statements.append((statement, parameters))


@contextmanager
def listening(engine: sa.Engine) -> Iterator[Asked]:
    asked = Asked()
    sa.event.listen(engine, "before_cursor_execute", asked.note)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_cursor_execute", asked.note)


def explained(connection: sa.Connection, statement: str, parameters: Any, *, analyze: bool = False) -> dict[str, Any]:
    """The plan of a statement; with `analyze` it is carried out, and the plan says what that took."""
    how = f"FORMAT JSON, ANALYZE {analyze}"
    [[answer]] = connection.exec_driver_sql(f"EXPLAIN ({how}) {statement}", parameters).all()
    plans = answer if isinstance(answer, list) else orjson.loads(answer)
    plan: dict[str, Any] = plans[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every part of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)
