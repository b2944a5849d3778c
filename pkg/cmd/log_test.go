package cmd

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2/textlogger"
)

func TestTheLogLeavesBodiesOutHoweverTheyGetThere(t *testing.T) {
	const secret = "thisisthesecret0"
	for name, log := range map[string]func(logr.Logger){
		"info":             func(l logr.Logger) { l.V(8).Info("Request Body", "body", secret) },
		"error":            func(l logr.Logger) { l.Error(errors.New("failed"), "Request Body", "body", secret) },
		"with values":      func(l logr.Logger) { l.WithValues("body", secret).Info("Request Body") },
		"with a name":      func(l logr.Logger) { l.WithName("name").Info("Request Body", "body", secret) },
		"with call depth":  func(l logr.Logger) { l.WithCallDepth(1).Info("Request Body", "body", secret) },
		"bytes":            func(l logr.Logger) { l.Info("Request Body", "body", []byte(secret)) },
		"among others":     func(l logr.Logger) { l.Info("Request Body", "verb", "GET", "body", secret, "status", 200) },
		"with all of that": func(l logr.Logger) { l.WithName("n").WithValues("a", "b").V(2).Info("m", "body", secret) },
	} {
		var out bytes.Buffer
		text := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&out), textlogger.Verbosity(10)))
		log(logr.New(maskingSink{text.GetSink()}))
		if strings.Contains(out.String(), secret) || !strings.Contains(out.String(), "characters>") {
			t.Errorf("%s: the body is shown, or there is no sign of it", name)
		}
		if !strings.Contains(out.String(), "log_test.go:") && name != "with call depth" {
			t.Errorf("%s: the log is said to come from elsewhere: %s", name, strings.ReplaceAll(out.String(), secret, "<the secret>"))
		}
	}
	keysAndValues := []any{"body", secret}
	maskValues(keysAndValues)
	if keysAndValues[1] != secret {
		t.Error("the caller's own values are changed")
	}
}
