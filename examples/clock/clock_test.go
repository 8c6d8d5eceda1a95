package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC) }
	answer := httptest.NewRecorder()
	newHandler(zone, now).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer
}

// The same image tells another time where it is configured for another zone.
func TestTellsTheTimeOfItsZone(t *testing.T) {
	if got := get(t, "/").Body.String(); got != "2026-07-01T12:00:00+02:00\n" {
		t.Errorf("got %q", got)
	}
}

// The probe and the proxy ask this path.
func TestSaysThatItIsReady(t *testing.T) {
	if got := get(t, "/healthz"); got.Code != http.StatusOK {
		t.Errorf("got %d", got.Code)
	}
}

// An unknown path is an error, not the time.
func TestAnswersNothingElse(t *testing.T) {
	if got := get(t, "/admin"); got.Code != http.StatusNotFound {
		t.Errorf("got %d", got.Code)
	}
}
