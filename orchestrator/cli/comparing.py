"""`check`: compare two places record by record. Needs neither Postgres nor Redis, makes no job, writes to no store."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from migrations.comparing import IN_METADATA, Comparison, Position, Result, Symbol, Wish
from migrations.mapping import MARK
from migrations.places import Counterparts, open_place, pair_up
from migrations.renaming import Pair
from orchestrator.cli.output import Json, again, err, say, say_json, say_next
from orchestrator.cli.session import fleet
from orchestrator.cli.watching import INTERRUPTED
from orchestrator.core.wording import read_for
from vecfleet.drafts import Draft
from vecfleet.enriching import OWNER_KEYS, PREVIOUS, SOURCE
from vecfleet.errors import BadInput, StoreError, Unreachable
from vecfleet.stores.base import Store, Usage
from vecfleet.stores.encoded_ids import seen

DIFFERENT, INCOMPLETE = 1, Unreachable.exit_code
_SHOWN = 20
_BAR_EVERY = 250  # results
_NAMED = 20  # keys
# What a job writes into each record on its way, so that there is a way back.
_OURS = OWNER_KEYS | {SOURCE, PREVIOUS, MARK}
_MEANINGS = {
    Symbol.EQUAL: "equal",
    Symbol.DIFFERS: "different",
    Symbol.ONLY_A: "only in A",
    Symbol.ONLY_B: "only in B",
    Symbol.ERROR: "not compared",
}


@dataclass(slots=True)
class Report:
    """Counts results, keeps the first that are not equal, and writes paths to the files that were asked for.

    What stands in a file is settled: results come in order, so another run goes on after the last line. An older file
    stays until there is a first result.
    """

    files: Sequence[tuple[IO[str], frozenset[Symbol], bool]]
    drafts: Sequence[Draft] = ()
    counts: Counter[Symbol] = field(default_factory=Counter)
    in_metadata: int = 0  # records that differ in nothing else
    alone: Counter[str] = field(default_factory=Counter)  # records that differ in this key and in nothing else
    keys: set[str] = field(default_factory=set)  # that differ; no more of them than an answer can name
    shown: list[Result] = field(default_factory=list)
    last: str | None = None

    def publish(self) -> None:
        """Let the files take the names that a person gave."""
        for draft in self.drafts:
            draft.publish()

    def add(self, result: Result) -> None:
        if not self.counts:
            self.publish()
        self.counts[result.symbol] += 1
        self.in_metadata += (result.why or "").startswith(IN_METADATA) and result.symbol is Symbol.DIFFERS
        if len(self.keys) <= _NAMED:
            self.keys.update(result.keys)
            if (result.why or "").startswith(IN_METADATA) and len(result.keys) == 1:
                self.alone.update(result.keys)
        if result.id is not None:
            self.last = result.path
        if result.symbol is not Symbol.EQUAL and len(self.shown) < _SHOWN:
            self.shown.append(result)
        for file, symbols, marked in self.files:
            if result.symbol in symbols:
                file.write(f"{result.symbol} {result.path}\n" if marked else f"{result.path}\n")

    @property
    def hidden(self) -> int:
        return self.counts.total() - self.counts[Symbol.EQUAL] - len(self.shown)

    @property
    def exit_code(self) -> int:
        if self.counts[Symbol.ERROR]:
            return INCOMPLETE
        return DIFFERENT if self.counts.total() > self.counts[Symbol.EQUAL] else 0


def _written(what: str) -> Any:
    return typer.Option(metavar="FILE", help=f"Write {what} to this file.")


def check(
    a: Annotated[str, typer.Argument(metavar="A", help="STORE:INDEX or STORE:INDEX/NAMESPACE, which may be a glob.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise: pgvector:docs, parquet:exports/shop, …")],
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="OLD at A is called NEW at B: 'tenant-*=t/{1}'; may be repeated."),
    ] = None,
    ids_only: Annotated[bool, typer.Option("--ids-only", help="Compare ids only; read no record.")] = False,
    one_way: Annotated[bool, typer.Option("--one-way", help="Ignore records that only B has.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Ignore this metadata key; may be repeated.")
    ] = None,
    encode_ids: Annotated[
        bool, typer.Option("--encode-ids", help="Decode ids at Pinecone that a plan with this option encoded.")
    ] = False,
    combined: Annotated[Path | None, _written("every path with its symbol")] = None,
    match: Annotated[Path | None, _written("the paths that are equal")] = None,
    differ: Annotated[Path | None, _written("the paths that differ")] = None,
    missing_on_src: Annotated[Path | None, _written("the paths that only B has")] = None,
    missing_on_dst: Annotated[Path | None, _written("the paths that only A has")] = None,
    error: Annotated[Path | None, _written("the paths that could not be compared")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="PATH", help="Continue after this path; append to the files.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="PATH", help="Stop after this path.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two places record by record. Read-only; without a job, Postgres or Redis.

    = equal · * different · + only in A · - only in B · ! not compared. A path is NAMESPACE/ID, or the ID where A names
    one namespace. Ends with 0 if all is equal, 1 if something is not, 4 if something could not be compared.
    """
    wanted = [
        (combined, frozenset(Symbol), True),
        (match, frozenset([Symbol.EQUAL]), False),
        (differ, frozenset([Symbol.DIFFERS]), False),
        (missing_on_src, frozenset([Symbol.ONLY_B]), False),
        (missing_on_dst, frozenset([Symbol.ONLY_A]), False),
        (error, frozenset([Symbol.ERROR]), False),
    ]
    with fleet() as parts, ExitStack() as files:

        def named(store: str) -> Store:
            return seen(parts.store_named(store), encode_ids)

        try:
            at_a, at_b = open_place(a, named), open_place(b, named)
            pairs = pair_up(at_a, at_b, list(map(Pair.read, rename or ())))
        except StoreError as failure:
            failure.exit_code = INCOMPLETE  # a script must not take it for a difference
            raise
        wish = Wish(
            ids_only=ids_only,
            one_way=one_way,
            ignored=frozenset(ignore or ()),
            after=_position(after, labelled=at_a.only is None),
            until=_position(until, labelled=at_a.only is None),
        )
        report = _reporting(files, wanted, adds=after is not None)
        comparison = Comparison(at_a.reader, at_b.reader, wish, parts.settings.worker_threads)
        end = _compare(comparison, pairs, report)
    _say(report, at_a.reader.usage + at_b.reader.usage, end, as_json=as_json)
    raise typer.Exit(INTERRUPTED if isinstance(end, KeyboardInterrupt) else report.exit_code)


def _position(path: str | None, *, labelled: bool) -> Position | None:
    return Position.of(path, labelled=labelled) if path is not None else None


def _reporting(
    files: ExitStack, wanted: Iterable[tuple[Path | None, frozenset[Symbol], bool]], *, adds: bool
) -> Report:
    """Open the files that were asked for; `adds`: to what stands there."""
    named = [(path, symbols, marked) for path, symbols, marked in wanted if path is not None]
    if len({path.absolute() for path, _, _ in named}) < len(named):
        raise BadInput("two options name the same file", next_step="name a file for each")
    drafts = [] if adds else [files.enter_context(Draft(path)) for path, _, _ in named]
    places = [draft.path for draft in drafts] or [path for path, _, _ in named]
    try:
        opened = [files.enter_context(place.open("a", encoding="utf-8", buffering=1)) for place in places]
    except OSError as error:
        raise BadInput(f"cannot write {error.filename}: {error.strerror}", next_step="name another file") from error
    return Report([(file, symbols, marked) for file, (_, symbols, marked) in zip(opened, named, strict=True)], drafts)


def _compare(
    comparison: Comparison, pairs: Sequence[Counterparts], report: Report
) -> StoreError | KeyboardInterrupt | None:
    """Compare and report until the end. Return what ended it before."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=sum(pair.records for pair in pairs if comparison.wish.wants(pair)))
        try:
            for number, result in enumerate(comparison.results(pairs)):
                report.add(result)
                if number % _BAR_EVERY == 0:
                    bar.update(task, completed=number)
            report.publish()
        except (StoreError, KeyboardInterrupt) as end:
            return end
    return None


def _say(report: Report, usage: Usage, end: StoreError | KeyboardInterrupt | None, *, as_json: bool) -> None:
    steps = _next_steps(report, end)
    if as_json:
        say_json(
            {
                "complete": end is None and not report.counts[Symbol.ERROR],
                "counts": {_MEANINGS[symbol].replace(" ", "_"): report.counts[symbol] for symbol in _MEANINGS},
                "differences": [
                    {"symbol": result.symbol, "path": result.path, "why": result.why} for result in report.shown
                ],
                "hidden": report.hidden,
                "last": report.last,
                "read_units": usage.read_units,
                "requests": usage.requests,
                "next_steps": steps,
            }
        )
        return
    for result in report.shown:
        say(f"{result.symbol} {result.path}" + (f": {result.why}" if result.why else ""))
    if report.hidden:
        say(f"… and {report.hidden:,} more")
    say(" · ".join(f"{report.counts[symbol]:,} {meaning}" for symbol, meaning in _MEANINGS.items()))
    say(f"cost: {read_for(usage.read_units, usage.requests)}")
    if report.alone:
        alone = " · ".join(f"{count:,} in {key} alone" for key, count in report.alone.most_common(_NAMED))
        say(f"of those that differ, {alone}")
    if ours := sorted(report.keys & _OURS):
        say(f"of the keys that differ, jobs of vecfleet write {', '.join(ours)} into what they move")
    if end is not None:
        say(f"stopped after {report.last}" if report.last is not None else "stopped before the first record")
    if isinstance(end, StoreError) and end.next_step:
        steps = [end.next_step, *steps]
    say_next(steps)


def _next_steps(report: Report, end: object | None) -> list[str]:
    if end is not None:
        return [again("--after", report.last) if report.last else again()]
    steps = [again("--combined", "all.txt")] if report.hidden and not report.files else []
    unequal = report.counts.total() - report.counts[Symbol.EQUAL]
    if unequal and report.in_metadata == unequal:
        named = len(report.keys) <= _NAMED and all(map(str.isprintable, report.keys))
        options = [word for key in sorted(report.keys) for word in ("--ignore", key)]
        steps.insert(0, again(*options) if named else f"`{again('--ignore', 'KEY')}` for each key that may differ")
    return steps
