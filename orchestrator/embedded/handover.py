"""Hand over tables from before there were roles to the role that is to own them.

`REASSIGN OWNED` refuses it: the superuser that made the server owns what the server itself needs.
"""

import psycopg
from psycopg import sql

_OWNED = """
WITH of_extensions AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
    ours AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
SELECT 'TABLE', c.oid::regclass::text FROM pg_class c
WHERE c.relnamespace IN (SELECT oid FROM ours) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND pg_get_userbyid(c.relowner) = current_user
    AND ('pg_class'::regclass, c.oid) NOT IN (SELECT * FROM of_extensions)
    AND NOT EXISTS (  -- a column's own sequence goes with its table
        SELECT FROM pg_depend d WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.deptype IN ('a', 'i'))
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace IN (SELECT oid FROM ours) AND pg_get_userbyid(p.proowner) = current_user
    AND ('pg_proc'::regclass, p.oid) NOT IN (SELECT * FROM of_extensions)
UNION ALL
SELECT 'SCHEMA', n.oid::regnamespace::text FROM pg_namespace n
WHERE n.oid IN (SELECT oid FROM ours) AND pg_get_userbyid(n.nspowner) = current_user
"""


def hand_over(connection: "psycopg.Connection[tuple[object, ...]]", owner: str) -> None:
    """Make `owner` own what the connected role owns in this database, except what extensions brought.

    Safe to repeat: a table that was handed over is not found again.
    """
    for kind, name in connection.execute(_OWNED).fetchall():
        # Both come from Postgres: a kind from the query above, and a name that Postgres has quoted.
        statement = sql.SQL(f"ALTER {kind} {name} OWNER TO {{}}")
        connection.execute(statement.format(sql.Identifier(owner)))
