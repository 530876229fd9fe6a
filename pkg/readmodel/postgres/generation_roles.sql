-- Who may do what with the tables of generations: after each migration, and with a new generation. Where the roles are not
-- there, the tables are their maker's alone.

DO $$
DECLARE
    own record;
BEGIN
    IF to_regrole('lotline_migrate') IS NULL OR to_regrole('lotline_projector') IS NULL OR to_regrole('lotline_bi') IS NULL THEN
        RETURN;
    END IF;
    FOR own IN
        SELECT oid::regclass::text AS it, relowner AS owner FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname ~ '^(order_lines|stock|skus)_g[0-9]+$'
    LOOP
        IF own.owner <> 'lotline_migrate'::regrole AND pg_has_role('lotline_migrate', 'SET') THEN
            EXECUTE format('ALTER TABLE %s OWNER TO lotline_migrate', own.it);
        END IF;
        -- What the projector's statements do: it never deletes.
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s TO lotline_projector', own.it);
        -- lotline verify compares them.
        EXECUTE format('GRANT SELECT ON %s TO lotline_bi', own.it);
    END LOOP;
END
$$;
