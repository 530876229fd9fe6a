package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lotline/lotline/services/gateway/internal/apidocs"
	"github.com/stretchr/testify/require"
)

// Every route is described, and every description is of a route.
func TestTheDescriptionIsOfTheRoutes(t *testing.T) {
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Ref string `json:"$ref"`
			}
			Security  *[]any
			Responses map[string]struct {
				Ref string `json:"$ref"`
			}
		}
	}
	require.NoError(t, json.Unmarshal(apidocs.Document, &document))
	described := map[string]bool{}
	for path, methods := range document.Paths {
		for method := range methods {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	routes := map[string]bool{}
	for _, rt := range (&api{}).routes() {
		path := strings.ReplaceAll(rt.path, "...}", "}")
		routes[rt.method+" "+path] = true
		described := document.Paths[path][strings.ToLower(rt.method)]
		book := strings.HasPrefix(described.Responses["503"].Ref, "#/components/responses/Book")
		if rt.scope == open {
			require.True(t, described.Security != nil && len(*described.Security) == 0, path)
			continue
		}
		require.Nil(t, described.Security, path)
		require.Equal(t, book, described.Responses["401"].Ref == "#/components/responses/BookNoKey", path)
		var parameters []string
		for _, p := range described.Parameters {
			parameters = append(parameters, p.Ref[strings.LastIndex(p.Ref, "/")+1:])
		}
		switch {
		case rt.method == http.MethodGet:
			require.Subset(t, parameters, []string{"After", "AfterHeader", "IfNoneMatch"}, path)
		case path == "/commands":
			require.NotContains(t, parameters, "Key")
		default:
			require.Subset(t, parameters, []string{"Key", "Prefer"}, path)
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(routes)), slices.Sorted(maps.Keys(described)))
}
