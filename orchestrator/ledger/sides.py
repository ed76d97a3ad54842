"""The two sides of a job, as columns of its row: which index, and how ids stand there."""

from typing import Literal

import sqlalchemy as sa

from orchestrator.ledger import tables as t
from vecfleet.connections import ACCOUNT


def index_of(side: Literal["source", "target"]) -> sa.ColumnElement[str]:
    """Return the name of a job's index as `vecfleet.connections.full_name` gives it."""
    name, store = t.job.c[side]["name"].astext, t.job.c.plan[side]["store"].astext
    return sa.case((store.startswith(ACCOUNT), store + ":" + name), else_=name)


def encodes(side: Literal["source", "target"]) -> sa.ColumnElement[bool]:
    """Say whether ids in a job's index stand encoded there, while the job knows them decoded."""
    encoded = sa.func.coalesce(t.job.c.plan["policies"]["encoded_ids"].astext, "") == "true"
    return sa.and_(encoded, t.job.c.plan[side]["store"].astext.startswith("pinecone"))
