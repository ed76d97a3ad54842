"""Aliases of namespaces, which the SDK (10.2) does not know: every reader reads through them, no writer writes."""

from typing import Any
from urllib.parse import quote

import httpx

from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import require_ok, translated

PER_PAGE = 100


class NamespaceAliases:
    """The aliases of one index. Nothing is sent before the first call."""

    def __init__(self, http: PerProcess[httpx.Client]) -> None:
        self._http = http

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
        require_ok(answer, doing)
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body
