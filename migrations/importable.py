"""Imports that the service can begin by a bulk import of its own. Read-only."""

from typing import Protocol, runtime_checkable

from migrations.findings import Findings, few
from migrations.plan import NewIndex, Policies
from migrations.survey import Survey
from vecfleet.names import DEFAULT
from vecfleet.stores.base import BulkFiles, BulkImport, IndexInfo, Kind, Store
from vecfleet.stores.documents import Layout

URIS = ("s3://", "gs://", "https://", "file:///")  # the last is the emulator's
MAX_URI_CHARS = 1_500


class Imports(Protocol):
    """The imports that a store makes of files in a bucket, into one index."""

    def of(self, uri: str) -> list[BulkImport]: ...


@runtime_checkable
class Importing(Protocol):
    """A store that imports files from a bucket by itself."""

    def imports(self, info: IndexInfo) -> Imports: ...


def check(survey: Survey, folders: Store, policies: Policies, create: NewIndex | None) -> None:
    """Raise BadPlan with every reason why the service's bulk import cannot begin this plan."""
    from vecfleet.stores.parquet import ParquetIndex  # loads pyarrow, which other plans do without

    assert policies.bulk is not None, "only a plan with files for the service is checked"
    uri, into = policies.bulk.uri, survey.target or survey.source
    cloud = create.cloud if create is not None else into.cloud
    folder = folders.open(survey.source)
    assert isinstance(folder, ParquetIndex), "an import is planned from a folder"
    misnamed = folder.misnamed()
    there = {name for name, held in survey.occupied.items() if held.records or name != DEFAULT} & {*survey.namespaces}
    reasons = {
        f"knows no {uri!r}: write s3://BUCKET/DIR, gs://BUCKET/DIR or "
        "https://ACCOUNT.blob.core.windows.net/CONTAINER/DIR": not uri.startswith(URIS) or len(uri) > MAX_URI_CHARS,
        "gets its right to read from a storage integration: a plan keeps no key in a URI": _holds_a_key(uri),
        "reads no S3 for an index outside of AWS": uri.startswith("s3://") and cloud not in (None, "aws"),
        "takes no index of pods": into.kind is Kind.POD,
        "takes no index that embeds texts itself": into.kind is Kind.INTEGRATED,
        **_about_files(folder.layout, Layout.of(into)),
        "keeps metadata and ids as they are": policies.metadata_map is not None or policies.encoded_ids,
        f"makes new namespaces, and these are there: {few(there)}": bool(there),
        f"would call these namespaces by their folders' other names: {few(misnamed)}": bool(misnamed),
    }
    findings = Findings()
    findings.problems += [f"the service's bulk import {why}" for why, holds in reasons.items() if holds]
    findings.raise_problems()


def _about_files(exported: Layout | None, wanted: Layout | None) -> dict[str, bool]:
    """Return why the service could not read these files into this index, each with whether that is so."""
    if exported is None or wanted is None:
        return {
            "takes JSON lines for a document index, and this export is of Parquet": wanted is not None,
            "takes Parquet for an index of vectors, and this export is of JSON lines": exported is not None,
        }
    others = [name for name in (exported.dense, exported.sparse) if name not in (None, wanted.dense, wanted.sparse)]
    return {f"takes each vector under its name in the files, and the index has no field {few(others)}": bool(others)}


def _holds_a_key(uri: str) -> bool:
    """Say whether a URI has a part in which keys are given: Azure's signatures, a user and password."""
    return "?" in uri or "@" in uri.partition("://")[2].partition("/")[0]


def made_before(store: Store, target: IndexInfo | None, files: BulkFiles) -> tuple[str, ...]:
    """Return the keys of the imports of these files that the target has had: whatever comes later is of an apply."""
    if target is None:
        return ()
    assert isinstance(store, Importing), "only an account of Pinecone is planned to import"
    return tuple(sorted(begun.key for begun in store.imports(target).of(files.uri)))


def said(policies: Policies, folder: str, gb: float, *, priced: bool) -> str:
    """Return what a person should know before applying such a plan."""
    assert policies.bulk is not None, "only a plan with files for the service is spoken of"
    unknown = "" if priced else f"; its price of {gb:,.3f} GB is not known here (CONVERSION_DOLLARS_PER_GB)"
    return (
        f"the service imports {policies.bulk.uri} when this is applied: nobody but you knows that it is a copy of "
        f"{folder}. What it leaves out, the job copies{unknown}"
    )
