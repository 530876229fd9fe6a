-- Who may do what with the read model. It runs whole after every migration, in one transaction, with the read model's
-- schema as the current one, so that the rights are always these.
--
-- Nobody logs in as one of these roles; users become members of them. They belong to the whole server, their rights to
-- this database.

DO $$
DECLARE
    users text := 'lotline_projector, lotline_gateway, lotline_bi';
    own record;
BEGIN
    IF NOT has_schema_privilege('lotline_migrate', current_schema(), 'CREATE') OR NOT has_schema_privilege('lotline_projector', current_schema(), 'USAGE') THEN
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
        SELECT oid::regclass::text AS it, relowner AS owner FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v')
    LOOP
        IF own.owner <> 'lotline_migrate'::regrole THEN
            EXECUTE format('ALTER TABLE %s OWNER TO lotline_migrate', own.it);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %s', own.it, users);
    END LOOP;
END
$$;

-- The tables of generations are in generation_roles.sql, which runs after this.
GRANT SELECT, INSERT, UPDATE ON outcomes TO lotline_projector;
GRANT SELECT, INSERT, DELETE ON set_aside TO lotline_projector;
GRANT SELECT ON goose_db_version, generations TO lotline_projector;

-- What the gateway asks, by the names that stay over generations; so does the projector's audit.
GRANT SELECT ON order_lines, stock, skus, outcomes TO lotline_gateway, lotline_bi, lotline_projector;
GRANT SELECT ON generations TO lotline_bi;
