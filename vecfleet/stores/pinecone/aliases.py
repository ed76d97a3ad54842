"""Aliases of namespaces, which the SDK (10.2) does not know: every reader reads through them, no writer writes."""

from typing import Any
from urllib.parse import quote

import httpx

from vecfleet.deadlines import BoundedTransport
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess, api_key
from vecfleet.stores.pinecone.errors import of_status, translated

API_VERSION = "2026-07"  # the first that has aliases
PER_PAGE = 100


class NamespaceAliases:
    """The aliases of one index. The client is made per process, and nothing is sent before the first call."""

    def __init__(self, host: str, settings: Settings) -> None:
        address = host if "://" in host else f"https://{host}"
        self._http = PerProcess(
            lambda: httpx.Client(
                base_url=address,
                timeout=settings.request_deadline_seconds,
                transport=BoundedTransport(httpx.HTTPTransport(), settings.request_deadline_seconds),
                headers={"Api-Key": api_key(settings), "X-Pinecone-Api-Version": API_VERSION},
            )
        )

    def every(self) -> dict[str, str]:
        """Return alias → the namespace that it leads to."""
        targets: dict[str, str] = {}
        token: str | None = None
        while True:
            params = {"limit": PER_PAGE} | ({"paginationToken": token} if token else {})
            body = self._call("list the aliases", "GET", "", params=params)
            targets |= {alias["name"]: alias["target_namespace"] for alias in body.get("namespace_aliases", ())}
            token = (body.get("pagination") or {}).get("next")
            if not token:
                return targets

    def one(self, name: str) -> str | None:
        """Return the namespace that the alias leads to; None if no alias has this name."""
        body = self._call(f"look up the alias {name!r}", "GET", f"/{quote(name, safe='')}", absent=True)
        to: str | None = body.get("target_namespace")
        return to

    def point(self, name: str, to: str | None) -> None:
        """Point the alias at the namespace, creating it if needed. None removes it: its readers get empty answers."""
        if to is None:
            self._call(f"remove the alias {name!r}", "DELETE", f"/{name}", absent=True)
            return
        target = {"target_namespace": to}
        if not self._call(f"lead the alias {name!r}", "PATCH", f"/{name}", absent=True, json=target):
            self._call(f"make the alias {name!r}", "POST", "", json={"name": name, **target})

    def _call(self, doing: str, method: str, path: str, *, absent: bool = False, **arguments: Any) -> dict[str, Any]:
        with translated(doing):
            answer = self._http.get().request(method, f"/namespace-aliases{path}", **arguments)
        if absent and answer.status_code == 404:
            return {}
        if answer.is_error:
            raise of_status(answer.status_code, answer.text, doing)
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body
