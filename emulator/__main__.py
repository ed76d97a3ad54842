"""`python -m emulator`: run the emulator until a signal stops it."""

import argparse
import asyncio
import json
import math
import os
import signal
import sys
from pathlib import Path

import uvloop

from emulator.calls import DEFAULT_CALLS
from emulator.contested import Contested, switches
from emulator.errors import Refusal
from emulator.seeds_ownership import write_ownership
from emulator.server import Emulator, Options
from emulator.versions import NEWEST


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.write_ownership:
        write_ownership(arguments.write_ownership)
        return
    uvloop.run(_run(_options(arguments)))


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is False or action.default in (None, [])
        return action.help if plain else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator",
        description="A Pinecone-compatible server (API 2024-07 to 2026-07) for laptops and tests. When it is ready it "
        "prints one line of JSON with its addresses. Point the SDK at it: Pinecone(api_key='any', host='http://127.0.0.1:5080').",
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("--port", type=int, default=5080, help="port of the control plane; 0 takes any free port")
    add("--index-ports", metavar="FIRST-LAST", help="ports of the indexes (default: the 100 that follow --port)")
    add("--bind", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container")
    add("--host-name", default="127.0.0.1", help="name index addresses are given out with; must contain a dot")
    add("--data", type=Path, metavar="DIR", help="keep everything in this folder (default: in memory only)")
    add("--load", choices=["seeds"], help="load this data set, unless its index exists")
    add("--api-key", action="append", default=[], metavar="KEY", help="accept this key only; may be repeated")
    add("--own-key", metavar="KEY", help="what /_emulator asks for, as the header emulator-key (default: nothing)")
    add("--request-limit", type=int, default=2 * 1024 * 1024, metavar="BYTES", help="largest body; 0: no limit")
    add("--limits", default="off", metavar="off|documented|x0.1", help="per-second limits, or a share of them")
    add("--limit-shape", choices=["window", "bucket"], default="window", help="whole seconds, or a burst-free bucket")
    add("--url-limit", type=int, metavar="BYTES", help="longest URL, else 414; 0: any (default: 16384 with --limits)")
    add("--reads-lag", type=_seconds, default=0.0, metavar="S", help="reads show the state of S seconds ago")
    add("--absent-version", default=NEWEST, metavar="VERSION", help="API version of requests without its header")
    add("--bare-hosts", action="store_true", help="describe indexes with hosts without http://, as Pinecone does")
    contested = f"decide a contested fact: {', '.join(switches())}"
    add("--contested", action="append", default=[], metavar="NAME=VALUE", help=contested)
    add("--faults", type=Path, metavar="FILE", help="fault rules in force from the start: a JSON list of objects")
    add("--backup-delay", type=float, default=0.5, metavar="S", help="seconds a backup and a restore take")
    add("--backup-misses", type=float, default=0.0, metavar="S", help="backups lack younger writes; Pinecone: 900")
    add("--conversion-delay", type=float, default=0.5, metavar="S", help="seconds a conversion takes beside its work")
    add("--imports", type=Path, metavar="DIR", help="bulk imports find s3://BUCKET/PATH in DIR/BUCKET/PATH")
    add("--import-delay", type=float, default=0.5, metavar="S", help="seconds a bulk import takes beside its work")
    add("--call-log", type=int, default=DEFAULT_CALLS, metavar="N", help="calls that /_emulator/calls remembers")
    add("--write-ownership", type=Path, metavar="FILE.yaml", help="write who owns the seeds' namespaces, and exit")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        port=arguments.port,
        index_ports=_range(arguments.index_ports) if arguments.index_ports else None,
        bind=arguments.bind,
        host_name=arguments.host_name,
        data=arguments.data,
        api_keys=tuple(arguments.api_key),
        own_key=arguments.own_key,
        request_bytes=arguments.request_limit,
        limits=arguments.limits,
        limit_shape=arguments.limit_shape,
        url_bytes=arguments.url_limit,
        backup_delay_s=arguments.backup_delay,
        backup_misses_s=arguments.backup_misses,
        conversion_delay_s=arguments.conversion_delay,
        imports=arguments.imports,
        import_delay_s=arguments.import_delay,
        max_calls=arguments.call_log,
        seeds=arguments.load == "seeds",
        reads_lag_s=arguments.reads_lag,
        absent_version=arguments.absent_version,
        bare_hosts=arguments.bare_hosts,
        contested=_contested(arguments.contested),
        faults=_rules(arguments.faults) if arguments.faults else (),
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or a number of seconds, got '{text}'")
    return seconds


def _contested(texts: list[str]) -> Contested:
    try:
        return Contested.parse(texts)
    except Refusal as refusal:
        raise SystemExit(f"--contested: {refusal.message}") from None


def _rules(file: Path) -> list[dict[str, object]]:
    try:
        rules = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"--faults: {file} cannot be read: {error}") from None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise SystemExit(f"--faults: {file} must hold a JSON list of objects")
    return rules


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise SystemExit(f"--index-ports must look like 5081-5180, got '{text}'")
    return int(first), int(last)


async def _run(options: Options) -> None:
    try:
        emulator = Emulator(options)
        await emulator.start()
    except Refusal as refusal:
        raise SystemExit(refusal.message) from None
    except OSError as error:
        raise SystemExit(f"Cannot listen on port {options.port}: {error.strerror}") from None
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    hosts = {index.name: emulator.host_of(index) for index in emulator.project.indexes.values()}
    ready = {
        "control": emulator.control,
        "indexes": hosts,
        "reads_lag_s": options.reads_lag_s,
        "pid": os.getpid(),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await end.wait()
    await emulator.stop()


if __name__ == "__main__":
    main()
