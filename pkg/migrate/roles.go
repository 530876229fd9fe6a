package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// createRole does nothing if the role is there. Another database's migration may create it at the same moment, which
// the server answers with either of two errors.
const createRole = `DO $$ BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN CREATE ROLE %[1]s NOLOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`

const (
	sqlstateInsufficientPrivilege = "42501"
	// What is refused of a GRANT or REVOKE is a warning of the server's, not an error.
	sqlstatePrivilegeNotRevoked = "01006"
	sqlstatePrivilegeNotGranted = "01007"
)

// PostgresRoles makes the roles that are missing and gives each its rights by the statements of rights, which run in one
// transaction. Who migrates a managed database may not be allowed to: then nothing is changed, nothing fails, and a
// sentence says what an administrator has to do. Several may call it at once.
func PostgresRoles(ctx context.Context, url string, roles []string, rights string) (warning string, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return "", fmt.Errorf("parse the Postgres URL: %w", err)
	}
	var refused []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == sqlstatePrivilegeNotGranted || n.Code == sqlstatePrivilegeNotRevoked {
			refused = append(refused, n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	if missing, err := createRoles(ctx, conn, roles); err != nil {
		return "", err
	} else if len(missing) > 0 {
		return fmt.Sprintf("The roles %s are missing and user %s may not create them, so only the owner of the tables has rights: have an administrator run %q, then migrate again.",
			strings.Join(missing, ", "), config.User, "CREATE ROLE "+strings.Join(missing, "; CREATE ROLE ")+"; GRANT lotline_migrate TO "+pgx.Identifier{config.User}.Sanitize()), nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Side by side, two of these in one database would refuse each other.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('lotline roles'))`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, rights)
		return err
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == sqlstateInsufficientPrivilege:
		refused = append(refused, pg.Message)
	case err != nil:
		return "", fmt.Errorf("give the roles their rights: %w", err)
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return fmt.Sprintf("User %s may not give all roles their rights (%s): migrate as the owner of the database, who is a member of lotline_migrate.",
			config.User, strings.Join(slices.Compact(refused), "; ")), nil
	}
	return "", nil
}

// createRoles returns the roles that are still missing because they may not be created.
func createRoles(ctx context.Context, conn *pgx.Conn, roles []string) (missing []string, err error) {
	for _, role := range roles {
		_, err := conn.Exec(ctx, fmt.Sprintf(createRole, role))
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && pg.Code == sqlstateInsufficientPrivilege:
			missing = append(missing, role)
		case err != nil:
			return nil, fmt.Errorf("create the role %s: %w", role, err)
		}
	}
	return missing, nil
}
