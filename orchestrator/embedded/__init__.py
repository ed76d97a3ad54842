"""The servers and processes that one machine needs, run without Docker, root or an account. In reading order:

process     a process by its pid and time of birth: start, find again, stop
account     the account of the private Postgres when root starts it
ports       loopback ports that stay the same
server      the common part of both private servers
handover    gives tables from before there were roles to the role that owns them
postgres    a private Postgres with pgvector
redis       a private Redis-compatible server
programs    the fleet's own processes
record      the processes of one state folder, for the next supervisor
addresses   the addresses that a shell holds: servers here, elsewhere, or gone
sealing     the key of the audit trail of our own job table
scaling     the number of workers of a running stack
stack       all of it together: start, watch, stop
foreground  `vecfleet up`
background  `vecfleet up --detach`
"""
