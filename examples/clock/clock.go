package main

import (
	"fmt"
	"net/http"
	"time"
)

// newHandler answers with the time that now gives, as people in zone read it.
func newHandler(zone *time.Location, now func() time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, now().In(zone).Format(time.RFC3339))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	return mux
}
