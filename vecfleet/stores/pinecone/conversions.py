"""Conversions that Pinecone makes of an index of vectors: a new document index, filled from a snapshot.

The service documents: the source goes on to serve; namespaces keep their names; what is written after the request, and
perhaps shortly before it, may be missing; a record that the schema cannot hold is left out and counted, and named
nowhere. A failed conversion leaves an index of no use. The SDK (10.2) knows none of it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from vecfleet.errors import StoreError
from vecfleet.stores.base import Conversion
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import instant, readable, require_ok, translated

_POLL_S = 1.0
_PER_PAGE = 100
_UNREADABLE = "apply again, which begins nothing twice; if this stays so, plan without `--via convert`"


class PineconeConversions:
    """The conversions of one project."""

    def __init__(self, http: PerProcess[httpx.Client]) -> None:
        self._http = http

    def find(self, source: str, target: str) -> Conversion | None:
        """Return the newest conversion of one index into the other; None if there was none."""
        doing = "list the conversions"
        token: str | None = None
        while True:
            asked = {"limit": _PER_PAGE, "paginationToken": token}
            wanted = {name: value for name, value in asked.items() if value is not None}
            page = self._ask("GET", "/conversion-jobs", doing, params=wanted)
            with readable(doing, _UNREADABLE):
                for job in page["data"]:
                    if (job.get("source_index_name"), job.get("target_index_name")) == (source, target):
                        return _conversion(job)
                token = (page.get("pagination") or {}).get("next")
            if not token:
                return None

    def begin(self, source: str, target: str, fields: Mapping[str, Any], tags: Mapping[str, str]) -> Conversion:
        """Ask for it once. A record that the fields cannot hold is left out. Raises what the service refuses with."""
        body: dict[str, Any] = {
            "name": target,
            "schema": {"fields": dict(fields)},
            "error_mode": {"on_error": "continue"},
        }
        doing = f"convert the index {source!r} into {target!r}"
        self._ask("POST", f"/indexes/{quote(source, safe='')}/convert", doing, json=body | _tags(tags))
        begun = self.find(source, target)  # what it answers is not documented
        if begun is None:
            raise StoreError(f"{doing}: the service took it on, and lists no such conversion", next_step=_LOOK)
        return begun

    def finish(self, conversion: Conversion, on_wait: Callable[[Conversion], None]) -> Conversion:
        """Wait until it is complete; `on_wait` is called at each look. Raises StoreError if it has failed.

        Stopped while it waits: the conversion goes on.
        """
        while not (conversion.complete or conversion.failed):
            on_wait(conversion)
            time.sleep(_POLL_S)
            doing = f"look at the conversion {conversion.id}"
            told = self._ask("GET", f"/conversion-jobs/{quote(conversion.id, safe='')}", doing)
            with readable(doing, _UNREADABLE):
                conversion = _conversion(told)
        if conversion.failed:
            raise StoreError(
                f"the conversion {conversion.id} of {conversion.source!r} into {conversion.target!r} ended "
                f"{conversion.status}",
                next_step=f"delete the index {conversion.target!r}, which it left unfinished, and apply again; or plan "
                "without `--via convert`",
            )
        return conversion

    def _ask(self, method: str, path: str, doing: str, **arguments: Any) -> dict[str, Any]:
        with translated(doing):
            answer = self._http.get().request(method, path, **arguments)
        require_ok(answer, doing)
        with readable(doing, _UNREADABLE):
            body: dict[str, Any] = answer.json()
            return body


_LOOK = "look for the index in Pinecone's console, and apply again once its conversion shows"


def _tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"tags": dict(tags)} if tags else {}


def _conversion(job: Mapping[str, Any]) -> Conversion:
    if not isinstance(job["status"], str):
        raise TypeError("a status is a text")
    return Conversion(
        id=str(job["conversion_job_id"]),
        source=job["source_index_name"],
        target=job["target_index_name"],
        status=job["status"],
        percent=float(job.get("percent_complete") or 0.0),
        records=int(job.get("records_converted") or 0),
        created_at=instant(job["created_at"]),
        skipped=int(job.get("records_skipped") or 0),
    )
