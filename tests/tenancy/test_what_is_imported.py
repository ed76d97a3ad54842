"""`vecfleet.tenancy` loads what is asked for, and shows what there is."""

import subprocess
import sys

import vecfleet.tenancy as tenancy


def test_every_name_that_it_shows_is_there() -> None:
    assert set(tenancy.__all__) <= set(dir(tenancy))
    assert all(getattr(tenancy, name) is not None for name in tenancy.__all__)


def test_its_modules_can_be_reached_through_it_as_before() -> None:
    """`import vecfleet.tenancy` and then `vecfleet.tenancy.client.…`, in a process that has loaded none of them."""
    said = fresh("import vecfleet.tenancy; print(vecfleet.tenancy.client.get_delphi_client.__name__)")
    assert said == "get_delphi_client"


def test_who_needs_only_what_evidence_looks_like_waits_for_no_sdk() -> None:
    assert fresh("import sys, vecfleet.tenancy.shadow_reads; print('pinecone' in sys.modules)") == "False"


def test_a_name_that_is_not_there_is_said_not_to_be() -> None:
    said = fresh("import vecfleet.tenancy as t\ntry: t.nothing\nexcept AttributeError as error: print(error)")
    assert said == "module 'vecfleet.tenancy' has no attribute 'nothing'"


def fresh(code: str) -> str:
    """Return what a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
