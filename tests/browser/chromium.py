"""Debian's Chromium, as the stories start it; and what is missing where there is none."""

import importlib.util
import shutil

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def program() -> str | None:
    """The Chromium of this machine."""
    return shutil.which("chromium")


def missing() -> str | None:
    """Return why no browser story can be told here, or None."""
    if program() is None:
        return "there is no Chromium on this machine: `make browser` installs it"
    if any(importlib.util.find_spec(name) is None for name in ("playwright", "axe_playwright_python")):
        return "the browser's driver is not in .venv: `make browser` installs it"
    return None


if __name__ == "__main__":
    if (reason := missing()) is not None:
        print(f"The browser stories are left out: {reason}")
