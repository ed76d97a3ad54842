"""A real RabbitMQ of a story's own: Debian's programs, on loopback, with all of its files in one folder."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from orchestrator.embedded.ports import free_port, listening
from orchestrator.embedded.process import Process

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
START_S = 180.0  # takes 5 s
PASSWORD = "a-password-of-this-story"
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = fleet
default_pass = {password}
disk_free_limit.absolute = 1MB
log.console = true
log.file = false
"""


def why_not() -> str | None:
    """Say why there is no RabbitMQ here; None where there is one."""
    if not (PROGRAMS / "rabbitmq-server").exists():
        return "there is no rabbitmq-server here: `make rabbitmq` installs Debian's, as root"
    return None


class RabbitMQ:
    """A server that can be killed, started again with what it had kept, and given an alarm."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.port = free_port()
        epmd = str(free_port())
        self._env = {
            **os.environ,
            "HOME": str(folder),  # its cookie lies there
            "ERL_EPMD_PORT": epmd,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": f"vecfleet{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self.port, password=PASSWORD))
        (folder / "plugins").write_text("[].")
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://fleet:{PASSWORD}@127.0.0.1:{self.port}//"

    def start(self) -> "RabbitMQ":
        log = self._folder / "rabbitmq.log"
        command = [PROGRAMS / "rabbitmq-server"]
        self._process = Process.launch("rabbitmq", command, log=log, cwd=self._folder, env=self._env)
        self._process.wait_until(lambda: listening(self.port), START_S)
        self.control("await_startup")
        return self

    def kill(self) -> None:
        """End it and whatever it started at once, as a machine that loses its power."""
        assert self._process is not None and self._process.child is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.child.wait(timeout=START_S)

    def alarm(self) -> None:
        """Let the disk be full: publishers are blocked from now on."""
        self.control("set_disk_free_limit", "1000000GB")

    def alarm_ends(self) -> None:
        self.control("set_disk_free_limit", "1MB")

    def control(self, *words: str) -> str:
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", *words]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=START_S, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def stop(self) -> None:
        """Stop it, and the daemon that names Erlang's nodes."""
        self.kill()
        subprocess.run(["epmd", "-port", self._env["ERL_EPMD_PORT"], "-relaxed_command_check", "-kill"],
                       env=self._env, capture_output=True, timeout=START_S, check=False)  # fmt: skip
