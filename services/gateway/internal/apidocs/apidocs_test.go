package apidocs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func get(path, encoding string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	Handler().ServeHTTP(w, r)
	return w
}

func TestVendoredFilesAreThoseThatWereChecked(t *testing.T) {
	for entry := range strings.Lines(string(file("vendor/checksums.txt"))) {
		sum, name, ok := strings.Cut(strings.TrimSpace(entry), "  ")
		require.True(t, ok, entry)
		for encoding, packed := range map[string]bool{"br, gzip": true, "gzip; q=0.5, *;q=0": true, "identity": false, "br, gzip;q=0": false, "x-gzip2": false} {
			w := get("/docs/"+name, encoding)
			require.Equal(t, 200, w.Code)
			var body io.Reader = w.Body
			if packed {
				require.Equal(t, "gzip", w.Header().Get("Content-Encoding"), encoding)
				unpacked, err := gzip.NewReader(body)
				require.NoError(t, err)
				body = unpacked
			}
			text, err := io.ReadAll(body)
			require.NoError(t, err)
			hash := sha256.Sum256(text)
			require.Equal(t, sum, hex.EncodeToString(hash[:]), name)
		}
	}
}

// What the page asks for is here, and nothing of it elsewhere.
func TestThePageLoadsFromTheGatewayOnly(t *testing.T) {
	w := get("/docs", "")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	found := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(w.Body.String(), -1)
	require.Len(t, found, 6)
	for _, link := range found {
		if !strings.HasPrefix(link[1], "data:") {
			require.Equal(t, 200, get(link[1], "gzip").Code, link[1])
		}
	}
}

func TestTheDocumentIsJSONWithoutLooseEnds(t *testing.T) {
	w := get("/openapi.json", "")
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var document any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &document))
	used := map[string]bool{}
	for _, found := range regexp.MustCompile(`"\$ref": "#([^"]*)"`).FindAllSubmatch(Document, -1) {
		at := document
		for name := range strings.SplitSeq(string(found[1]), "/") {
			if name != "" {
				at = at.(map[string]any)[name]
			}
		}
		require.NotNil(t, at, string(found[1]))
		used[string(found[1])] = true
	}
	components := document.(map[string]any)["components"].(map[string]any)
	for kind, all := range components {
		if kind == "securitySchemes" {
			continue
		}
		for name := range all.(map[string]any) {
			if kind == "schemas" && name == "Result" {
				continue // of the lines that /commands answers, which no schema can say
			}
			require.True(t, used["/components/"+kind+"/"+name], "%s %s is used nowhere", kind, name)
		}
	}
	require.True(t, bytes.HasSuffix(Document, []byte("}\n")))
}
