-- Who may do what in the allocator's database. It runs whole after every migration, in one transaction, so that the
-- rights are always these: a right that is taken out here is gone after the next `lotline migrate`.
--
-- Nobody logs in as one of these roles; users become members of them. A role belongs to the whole server, its rights to
-- this database.

DO $$
DECLARE
    users text := 'lotline_allocator, lotline_gateway, lotline_bi';
    own record;
BEGIN
    -- Whoever has no role has nothing. Only the database's owner can see to that, once; other members of lotline_migrate
    -- find it done.
    IF has_database_privilege('public', current_database(), 'CONNECT, TEMP') OR has_schema_privilege('public', current_schema(), 'USAGE, CREATE')
        OR NOT has_schema_privilege('lotline_migrate', current_schema(), 'CREATE') OR NOT has_schema_privilege('lotline_bi', current_schema(), 'USAGE') THEN
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', current_schema());
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO lotline_migrate, %s', current_database(), users);
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO lotline_migrate', current_schema());
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), users);
    END IF;

    -- lotline_migrate owns what migrations make, whichever of its members ran them. To give something away one has to be
    -- able to become its owner, which the creator of a role is not by itself.
    IF NOT pg_has_role('lotline_migrate', 'SET') THEN
        EXECUTE 'GRANT lotline_migrate TO CURRENT_USER';
    END IF;
    FOR own IN
        SELECT o.kind || ' ' || o.name AS it, o.owner FROM (
            SELECT 'TABLE' AS kind, oid, oid::regclass::text AS name, relowner AS owner FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
            UNION ALL SELECT 'FUNCTION', oid, oid::regprocedure::text, proowner FROM pg_proc
                WHERE pronamespace = current_schema()::regnamespace) AS o
        WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e') -- an extension's
    LOOP
        IF own.owner <> 'lotline_migrate'::regrole THEN
            EXECUTE format('ALTER %s OWNER TO lotline_migrate', own.it);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %s', own.it, users);
    END LOOP;
END
$$;

-- What the allocator's statements do, and `lotline offsets`. It deletes only what is spent: published events and
-- expired ids.
GRANT SELECT, INSERT, UPDATE ON partitions, products, batches, order_lines TO lotline_allocator;
GRANT SELECT, INSERT, UPDATE, DELETE ON command_seen TO lotline_allocator;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO lotline_allocator;
GRANT EXECUTE ON FUNCTION refuse_unless(boolean, text), contradict_unless(boolean, text) TO lotline_allocator;

-- What a shop's questions are answered from where the gateway asks the write side itself (--read-model=write-side).
GRANT SELECT ON products, batches TO lotline_gateway;
GRANT SELECT (orderid, sku, qty, batchref, allocated_version) ON order_lines TO lotline_gateway;

-- What people may read, and `lotline verify`: the state, how far it is and how much waits to be published; not who sent
-- which command, nor what is in the outbox.
GRANT SELECT ON partitions, products, batches TO lotline_bi;
GRANT SELECT (ctid, orderid, sku, qty, batchref, allocated_version, command_time) ON order_lines TO lotline_bi; -- ctid: verify reads parts of the table
GRANT SELECT (partition, first_offset, next_offset) ON outbox TO lotline_bi;
