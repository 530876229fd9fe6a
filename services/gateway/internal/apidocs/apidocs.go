// Package apidocs is the description of the gateway's HTTP API: an OpenAPI 3.1 document at /openapi.json, and a page at
// /docs that shows it and lets people try it.
//
// The service's root mounts it. It imports the standard library only; httpapi's tests hold the document to the routes, and
// tests/api to what the gateway answers.
package apidocs

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// Document is the OpenAPI document, JSON.
//
//go:embed openapi.json
var Document []byte

//go:embed index.html start.js style.css vendor
var files embed.FS

// policy lets the page load what this server serves, and nothing else. Its library writes styles into elements.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Paths are what the handler answers.
func Paths() []string { return []string{"/openapi.json", "/docs", "/docs/"} }

// Handler answers Paths.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /openapi.json", content("application/json", Document))
	mux.Handle("GET /docs", content("text/html; charset=utf-8", file("index.html")))
	mux.Handle("GET /docs/start.js", content("text/javascript; charset=utf-8", file("start.js")))
	mux.Handle("GET /docs/style.css", content("text/css; charset=utf-8", file("style.css")))
	mux.Handle("GET /docs/swagger-ui-bundle.js", packed("text/javascript; charset=utf-8", file("vendor/swagger-ui-bundle.js.gz")))
	mux.Handle("GET /docs/swagger-ui.css", packed("text/css; charset=utf-8", file("vendor/swagger-ui.css.gz")))
	return mux
}

func file(name string) []byte {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // a fault in the names above, which every start would see
	}
	return text
}

func content(contentType string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // an update of the gateway is an update of the page
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(text))
	})
}

// takesGzip reports whether a client says that it does. One that leaves the header out may well be none that can.
func takesGzip(header http.Header) bool {
	for coding := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			value, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			q, err := strconv.ParseFloat(value, 64)
			return !ok || err == nil && q > 0
		}
	}
	return false
}

// packed is content that is kept in gzip's form, which nearly every client takes.
func packed(contentType string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		if takesGzip(r.Header) {
			w.Header().Set("Content-Encoding", "gzip")
			content(contentType, text).ServeHTTP(w, r)
			return
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(text))
		var plain []byte
		if err == nil {
			plain, err = io.ReadAll(unpacked)
		}
		if err != nil {
			http.Error(w, "The file cannot be unpacked", http.StatusInternalServerError)
			return
		}
		content(contentType, plain).ServeHTTP(w, r)
	})
}
