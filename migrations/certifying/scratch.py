"""Scratch indexes: names that nobody else's index has.

The run's file is written before the first index is created, and removed once the last is gone: a run that dies at any
line leaves no index that its file does not name. Only an index is deleted that bears the run's tag.
"""

import re

from migrations.certifying.question import Scratch, described
from migrations.certifying.runs import CLEAN, Run, Runs, address_of, name_of_key
from vecfleet.errors import BadInput, KeyRefused, Missing, Refused
from vecfleet.patience import patiently
from vecfleet.stores.base import Conversion, IndexInfo
from vecfleet.stores.pinecone.clients import api_key
from vecfleet.stores.pinecone.store import PineconeStore

_TAG = "vecfleet-certify"
_PREFIX = re.compile(r"[a-z][a-z0-9-]{1,22}[a-z0-9]")


def require_unused(store: PineconeStore, prefix: str, runs: Runs) -> None:
    """Raise BadInput for a prefix that begins no name, Refused if it begins the name of an index there is."""
    if not _PREFIX.fullmatch(prefix):
        raise BadInput(
            f"{prefix!r} begins no name of a scratch index",
            next_step="give --index-prefix 3 to 24 characters: a-z first, then a-z, 0-9 and -, and no - at the end",
        )
    there = [info.name for info in patiently(store.indexes) if info.name.startswith(prefix)]
    ours = {name: run for run in runs.every(None) for name in run.indexes}
    left = [name for name in there if name in ours]
    if len(there) > len(left):
        other = next(name for name in there if name not in ours)
        raise Refused(
            f"the index {other!r} begins with {prefix!r}, and no run of ours created it; nothing was created",
            code="prefix-taken",
            next_step="choose an --index-prefix that begins no name of an index of yours",
        )
    if living := next((ours[name] for name in left if runs.lives(ours[name])), None):
        raise Refused(
            f"the run {living.number} is still under way in indexes that begin with {prefix!r}; nothing was created",
            code="scratch-in-use",
            next_step="wait until it ends, or choose another --index-prefix",
        )
    if left:
        raise Refused(
            f"another run left {', '.join(left)}; nothing was created",
            code="scratch-left",
            next_step=f"`{CLEAN}` deletes what runs left",
        )


def create(store: PineconeStore, run: Run, scratch: Scratch) -> IndexInfo:
    """Create the scratch index. Raises BadInput if it came to be in another project than the settings name."""
    like = described(scratch, {_TAG: run.number})
    info = store.create_like(run.name_of(scratch), like, None, None)
    try:
        store.open(info)
    except KeyRefused as error:
        store.remove(info.name)
        raise BadInput(error.message, next_step=error.next_step) from error
    return info


def convert(store: PineconeStore, run: Run) -> Conversion:
    """Have the service begin to convert the one scratch index into the other. Asked once, as it may be carried out."""
    like = described(Scratch.CONVERTED, {_TAG: run.number})
    source, target = run.name_of(Scratch.CONVERTIBLE), run.name_of(Scratch.CONVERTED)
    return store.conversions().begin(source, target, like.schema["fields"], like.tags)


def remove(store: PineconeStore, run: Run, name: str) -> bool:
    """Delete the scratch index, and return True; False if it is not there. Raises Refused for an index of others."""
    try:
        info = patiently(lambda: store.describe(name))
    except Missing:
        return False
    if info.tags.get(_TAG) != run.number:
        raise Refused(
            f"the index {name!r} does not bear the tag {_TAG}={run.number} of the run that created it; it stays",
            code="not-scratch",
            next_step="look at it in Pinecone's console, and delete it there if it is to go",
        )
    store.remove(name)
    return True


def clean(store: PineconeStore, run: Run, runs: Runs) -> list[str]:
    """Delete what a run left, forget the run, and return the names deleted. Safe to repeat; a death forgets nothing.

    Raises Refused if the run lives, or if its indexes may be in another project than that of the key that is set.
    """
    if run.address != address_of(store):
        raise BadInput(
            f"the run {run.number} created its indexes at {run.address}, and this command would look at "
            f"{address_of(store)}",
            next_step=f"set PINECONE_CONTROLLER_HOST to {run.address}, and type `{CLEAN}` again",
        )
    with runs.held(run):
        removed = [name for name in run.indexes if remove(store, run, name)]
        if not removed:
            _require_same_project(store, run, runs)
        runs.end(run)
    return removed


def _require_same_project(store: PineconeStore, run: Run, runs: Runs) -> None:
    """Raise Refused unless the indexes of the run would be seen if they were there."""
    if name_of_key(api_key(store.settings)) == run.key:
        return
    here = next((info.project for info in patiently(store.indexes) if info.project is not None), None)
    if here is not None and here == run.project:
        return
    theirs = f"the project {run.project!r}" if run.project is not None else "the project of the key it was begun with"
    key = f"of the project {here!r}" if here is not None else "another one"
    raise Refused(
        f"the run {run.number} created its indexes in {theirs}, and the key that is set now is {key}",
        code="other-project",
        next_step=f"set the key of that project, and type `{CLEAN}` again; if none of its indexes is there any more, "
        f"delete {runs.path(run)}",
    )
