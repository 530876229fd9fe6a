//go:build integration

package console

import "testing"

// docs is the API's page, which Swagger UI draws: how its elements are nested and what it says of them is its own, and no style changes that.
func (s *site) docs(t *testing.T) {
	p := s.open(t, "docs")
	p.SeesIn("#api", "/availability/")
	p.RequireAccessible("nested-interactive", "heading-order", "region")
	p.Picture("docs")
	p.RequireQuiet()
}
