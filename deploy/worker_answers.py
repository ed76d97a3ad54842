"""The worker container's health check: exit 0 if the worker of this very container answers a ping through Redis."""

import socket
import sys

from orchestrator.queue import app

PATIENCE_S = 5.0  # a worker with every thread busy answers within milliseconds; its main thread does nothing else

if not app.control.ping(pattern=f"*@{socket.gethostname()}", matcher="glob", timeout=PATIENCE_S, limit=1):
    sys.exit(f"no worker of {socket.gethostname()} answered within {PATIENCE_S:g} s")
