"""A server that pages as PostgREST does behind a Supabase project: at most 1,000 rows an answer, whatever is asked."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sb_secret_of_this_test"
MAX_ROWS = 1_000
_ID = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,"]+)')
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Project:
    """Tables, the requests seen, and a hook that runs before each answer."""

    tables: dict[str, list[dict[str, Any]]]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    before_answer: Callable[["Project"], None] = lambda project: None
    uuids: bool = False  # the type of every column `id`

    def answer(self, path: str, apikey: str | None) -> tuple[int, dict[str, str], Any]:
        if apikey != KEY:
            return 401, {}, {"message": "Invalid API key", "hint": "Double check your Supabase `anon` key."}
        self.before_answer(self)
        address = urlsplit(path)
        table = address.path.removeprefix("/rest/v1/")
        if table not in self.tables:
            message = f"Could not find the table 'public.{table}' in the schema cache"
            return 404, {}, {"code": "PGRST205", "message": message, "hint": None, "details": None}
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        rows = list(self.tables[table])
        for column, asked in query.items():
            if asked.startswith("in.("):
                ids = [plain or quoted.replace('\\"', '"') for quoted, plain in _ID.findall(asked[4:-1])]
                if self.uuids and not all(map(_UUID.fullmatch, ids)):
                    return 400, {}, {"code": "22P02", "message": "invalid input syntax for type uuid"}
                rows = [row for row in rows if row[column] in ids]
        random.shuffle(rows)  # without an order, none is promised
        for column in reversed(query.get("order", "").split(",")):
            if column:
                name = column.split(".")[0]
                rows.sort(key=lambda row: str(row[name]))
        start = int(query.get("offset", 0))
        limit = min(int(query.get("limit", MAX_ROWS)), MAX_ROWS)
        if start > len(rows):
            return 416, {}, {"code": "PGRST103", "message": "Requested range not satisfiable"}
        page = [{name: row[name] for name in query["select"].split(",")} for row in rows[start : start + limit]]
        shown = f"{start}-{start + len(page) - 1}" if page else "*"
        return (206 if len(page) < len(rows) else 200), {"Content-Range": f"{shown}/{len(rows)}"}, page


@contextmanager
def serving(tables: dict[str, list[dict[str, Any]]]) -> Iterator[Project]:
    project = Project(tables)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            project.requests.append(self.path)
            status, headers, body = project.answer(self.path, self.headers.get("apikey"))
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        project.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield project
        finally:
            server.shutdown()
