package cmd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const shortSilence = 200 * time.Millisecond

// ask sends a request to a server with that handler, and reads the answer.
func ask(t *testing.T, handler http.HandlerFunc) (string, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: notSilent{transport, shortSilence}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// say sends a part of an answer at once.
func say(w http.ResponseWriter, text string) {
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

func TestASilentServerIsGivenUp(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"that takes a request": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"in the middle of an answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			say(w, "{")
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := ask(t, handler)
			if !errors.Is(err, errSilent) || errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that it is silent", err)
			}
			if took := time.Since(start); took < shortSilence || took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestASlowAnswerIsWaitedFor(t *testing.T) {
	got, err := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 10 {
			say(w, "1")
			time.Sleep(shortSilence / 4)
		}
	})
	if err != nil || got != strings.Repeat("1", 10) {
		t.Errorf("it got %q, error %v", got, err)
	}
}

func TestADeadConnectionIsNotTriedTenTimes(t *testing.T) {
	// The client library knows it by these words.
	err := orSilent(t.Context(), errors.New("http2: client connection lost"))
	if !errors.Is(err, errSilent) || strings.Contains(err.Error(), "connection lost") {
		t.Errorf("error %v", err)
	}
}

func TestOnlyAnAPIServerMayClaimSuccess(t *testing.T) {
	for name, test := range map[string]struct {
		mediaType string
		code      int
		ok        bool
	}{
		"JSON":                 {"application/json", 200, true},
		"JSON with parameters": {"application/json; charset=utf-8", 201, true},
		"protobuf":             {"application/vnd.kubernetes.protobuf", 200, true},
		"a page to log in":     {"text/html", 200, false},
		"nothing":              {"", 200, false},
		"a page of an error":   {"text/html", 502, true},
	} {
		_, err := ask(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.mediaType)
			w.WriteHeader(test.code)
		})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, errNoAPI) {
			t.Errorf("%s: error %v; that it is taken should be %v", name, err, test.ok)
		}
	}
}
