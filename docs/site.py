"""Hooks of the site: links out of docs/ lead into the repository, which the site does not hold."""

import re
from pathlib import Path
from typing import Any

_OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Every decision is listed, in their order; the other pages stand in mkdocs.yml, where they belong."""
    found = sorted(path.name for path in (Path(config.docs_dir) / "adr").glob("*.md"))
    config.nav.append({"Decisions": [f"adr/{name}" for name in found]})
    return config


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Names the file instead of linking to it; within docs/adr, one level up is still a page."""
    if page.file.src_uri.startswith("adr/"):
        return re.sub(r"\[([^\]]+)\]\((?:\.\./){2,}([^)\s]+)\)", _named, markdown)
    return _OUT.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    text, file = link[1], link[2]
    return text if file in text else f"{text} (`{file}`)"
