"""The servers and processes that one machine needs, run without Docker, root or an account. In reading order:

process     a process by its pid and the moment it was born: start, find again, stop
account     who the private Postgres runs as when root starts it
ports       loopback ports that stay the same
server      what both private servers have in common
handover    tables of before there were roles, given to the role that owns them
postgres    a private Postgres with pgvector
redis       a private Redis-compatible server
programs    the fleet's own processes
record      what runs from one state folder, for whoever comes after
addresses   where the addresses that a shell holds lead: here, elsewhere, or nowhere any more
sealing     the key of the audit trail of our own job table
scaling     how many workers and threads a machine of so many cores gets
stack       all of it together: start, watch, stop
foreground  `vecfleet up`
"""

from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.process import DidNotStart
from orchestrator.embedded.redis import Redis

__all__ = ["DidNotStart", "Postgres", "Redis"]
