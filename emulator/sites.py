"""Refusal of requests that pages of other sites send to an emulator on somebody's own machine.

A browser lets any page send a request to 127.0.0.1, and names the page's site in it. Programs name none.
"""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from emulator.errors import Refusal

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
# Types that a form of any page can send. `curl -d` calls its body a form, too, but sends no Origin.
_OF_FORMS = ("text/plain", "multipart/form-data")


def refuse_other_sites(headers: Mapping[str, str], names: Collection[str]) -> None:
    """Raise Refusal where a browser asks for a page that is not at `names`, ourselves.

    The address that the browser was given counts, too: a name that others point at this machine is another site.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site is None:
        return
    host = headers.get("host", "")
    ours = urlsplit(f"//{host}").hostname in names
    if not ours or origin not in (None, f"http://{host}") or site not in (None, "same-origin", "none"):
        raise Refusal(403, "A page of another site asked for this; the emulator answers programs, and its own pages")


def refuse_forms(headers: Mapping[str, str]) -> None:
    """Raise Refusal for a body whose type is not JSON."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _OF_FORMS:
        raise Refusal(415, f"The body is JSON, and said to be {content_type}: send it as application/json")
