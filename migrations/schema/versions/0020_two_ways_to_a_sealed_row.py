"""The audit is sealed and emptied by two functions, so that who calls them needs no right to change its rows."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# They run with their owner's rights: each name is written out, so that no table of the caller's stands in for one of ours.
_FUNCTIONS = """
CREATE FUNCTION {schema}.audit_seal(row_ids bigint[], hashes text[], end_seal text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    end_of_chain record;
    before text := '';
    counted bigint := 0;
BEGIN
    IF cardinality(row_ids) = 0 OR cardinality(row_ids) IS DISTINCT FROM cardinality(hashes)
        OR array_position(hashes, NULL) IS NOT NULL OR end_seal IS NULL
    THEN
        RAISE EXCEPTION 'each row is sealed with its hash' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO end_of_chain FROM {schema}.audit_head;
    IF FOUND THEN
        before := end_of_chain.head;
        counted := end_of_chain.rows;
    END IF;
    FOR place IN 1 .. cardinality(row_ids) LOOP
        UPDATE {schema}.audit SET previous_hash = before, hash = hashes[place]
        WHERE id = row_ids[place] AND hash IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'row %% of the audit is sealed already, or not there', row_ids[place]
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        before := hashes[place];
    END LOOP;
    DELETE FROM {schema}.audit_head;
    INSERT INTO {schema}.audit_head (rows, head, seal) VALUES (counted + cardinality(row_ids), before, end_seal);
END $$;

CREATE FUNCTION {schema}.audit_empty(row_ids bigint[], erasure_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.erasure WHERE id = erasure_id) THEN
        RAISE EXCEPTION 'there is no erasure %%', erasure_id USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE {schema}.audit SET payload = NULL WHERE id = ANY (row_ids);
END $$;

REVOKE EXECUTE ON FUNCTION {schema}.audit_seal, {schema}.audit_empty FROM PUBLIC;
"""


def upgrade() -> None:
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    op.get_bind().exec_driver_sql(_FUNCTIONS.format(schema=schema))


def downgrade() -> None:
    op.execute("DROP FUNCTION audit_seal, audit_empty")
