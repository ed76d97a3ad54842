"""vecfleet, the library: records, namespaces and stores.

Reading order: `records`, `digests`, `names`, `errors`, `settings`, `filters`, then `stores/`. Nothing here knows
queues or the job table, and of jobs only `fleet`, which asks a service; an application may install this package alone.
`logs` is how all of it tells what it does.
"""

__version__ = "0.1.0"
