package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
)

// Login gives a Postgres user, who is made if missing, a new password and one role, as a deployment does, and returns the
// URL to log in with. owner is the URL of a superuser, for a database that was migrated. The user stays.
func Login(ctx context.Context, owner, user, role string) (string, error) {
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return "", fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	name, password := pgx.Identifier{user}.Sanitize(), rand.Text()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", user).Scan(&exists); err != nil {
		return "", fmt.Errorf("look for the user %s: %w", user, err)
	}
	create := "CREATE"
	if exists {
		create = "ALTER"
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("%s ROLE %s LOGIN PASSWORD '%s'; GRANT %s TO %[2]s", create, name, password, pgx.Identifier{role}.Sanitize())); err != nil {
		return "", fmt.Errorf("make the user %s a member of %s: %w", user, role, err)
	}
	u, err := url.Parse(owner)
	if err != nil {
		return "", fmt.Errorf("read the URL of Postgres: %w", err)
	}
	u.User = url.UserPassword(user, password)
	return u.String(), nil
}
