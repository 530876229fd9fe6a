package postgres

import _ "embed"

// roles are those that roles.sql gives rights to. They are shared by all databases of a server.
var roles = []string{"lotline_migrate", "lotline_allocator", "lotline_gateway", "lotline_bi"}

//go:embed roles.sql
var rolesSQL string
