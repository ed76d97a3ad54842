"""What pages of other sites may ask of an emulator on somebody's own machine: nothing.

A browser lets any page send a request to 127.0.0.1, and tells with it whose page it was. Programs tell nothing of that.
"""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from emulator.errors import Refusal

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
# What a form of any page can send; `curl -d` calls its body a form, too, and is known by its lack of an Origin.
_OF_FORMS = ("text/plain", "multipart/form-data")


def refuse_other_sites(headers: Mapping[str, str], names: Collection[str]) -> None:
    """Raise Refusal where a browser asks for a page that is not at `names`, ourselves.

    By the address that the browser was given, too: a name that somebody led to this machine is another's.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site is None:
        return
    host = headers.get("host", "")
    ours = urlsplit(f"//{host}").hostname in names
    if not ours or origin not in (None, f"http://{host}") or site not in (None, "same-origin", "none"):
        raise Refusal(403, "A page of another site asked for this; the emulator answers programs, and its own pages")


def refuse_forms(headers: Mapping[str, str]) -> None:
    """Raise Refusal for a body that says it is no JSON."""
    told = headers.get("content-type", "").partition(";")[0].strip().lower()
    if told in _OF_FORMS:
        raise Refusal(415, f"The body is JSON, and said to be {told}: send it as application/json")
