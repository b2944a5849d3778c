package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// rbacDoc is where the permissions that each command needs are written down.
const rbacDoc = "https://github.com/k3s-token/kubectl-k3s-token/blob/main/docs/rbac.yaml"

// report turns an error into the lines that the user reads: an API's error in
// kubectl's words (StandardErrorMessage in k8s.io/kubectl/pkg/cmd/util),
// however it is wrapped, any other behind "error: ". Of several errors each
// has a line, and none is said twice.
func report(err error) []string {
	var lines []string
	for _, err := range flatten(err) {
		for _, line := range describe(err) {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// withoutSecrets returns what takes out of a message what it may repeat of the
// command line, and must not: a token that stands where something else was
// wanted. Of what hideSecrets knows it leaves nothing either.
func withoutSecrets(args []string) func(message string) string {
	var masked []string
	for _, arg := range args {
		value := strings.TrimLeft(arg, "-")
		if _, after, ok := strings.Cut(arg, "="); ok && value != arg {
			value = after
		}
		if t, err := token.Parse(value); err == nil && t.Type() != token.Password {
			masked = append(masked, value, "<not shown, as it is a token>")
		}
	}
	tokens := strings.NewReplacer(masked...)
	return func(message string) string { return hideSecrets(tokens.Replace(message)) }
}

// secretPatterns are how secrets look wherever they stand: in the answer of a
// server or a webhook that quotes what it was sent, in a path, in an address. A
// host's name may look like a token up to its next dot or port.
var secretPatterns = sync.OnceValue(func() []secretPattern {
	return []secretPattern{
		{regexp.MustCompile(`\b([a-z0-9]{6}\.)[a-z0-9]{16}(\.?$|[.:][^a-z0-9]|[^a-z0-9.:])`), "${1}<not shown>${2}"},
		{regexp.MustCompile(`(K10[0-9a-f]{64}::)[^\s"']+`), "${1}<not shown>"},
		{regexp.MustCompile(`(token-secret\W{1,8}?)(\[[0-9 ]+\]|[A-Za-z0-9+/]{8,}=*)`), "${1}<not shown>"},
		{regexp.MustCompile(`://[^/\s"]*@`), "://<not shown>@"},
	}
})

type secretPattern struct {
	pattern     *regexp.Regexp
	replacement string
}

// hideSecrets takes what looks like a secret out of a text that comes from
// elsewhere.
func hideSecrets(text string) string {
	for _, s := range secretPatterns() {
		text = s.pattern.ReplaceAllString(text, s.replacement)
	}
	return text
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, flatten(err)...)
	}
	return all
}

func describe(err error) []string {
	var (
		noCA       *cluster.NoCAError
		output     *outputError
		status     apierrors.APIStatus
		connection *url.Error

		interrupted Interrupted
	)
	switch {
	case errors.As(err, &noCA):
		return append(describe(noCA.ConfigMap), "error: "+noCA.Error())
	case errors.Is(err, context.Canceled), errors.As(err, &interrupted) && errors.As(err, &connection):
		return []string{"error: interrupted"}
	case errors.As(err, &output) && isBrokenPipe(err):
		// Whoever reads the output has seen enough, as in "list | head".
		return nil
	case errors.As(err, &status):
		return describeStatus(status.Status())
	case clientcmd.IsConfigurationInvalid(err):
		return []string{"error: " + err.Error()}
	case errors.As(err, &connection):
		return append([]string{describeConnection(connection)}, clockHint(connection)...)
	}
	message := err.Error()
	if !strings.HasPrefix(message, "error: ") {
		message = "error: " + message
	}
	return []string{message}
}

func describeStatus(status metav1.Status) []string {
	switch status.Reason {
	case metav1.StatusReasonUnauthorized:
		return []string{fmt.Sprintf("error: You must be logged in to the server (%s)", status.Message)}
	case metav1.StatusReasonForbidden:
		return []string{
			"Error from server (Forbidden): " + status.Message,
			"hint: the Role for this command is in " + rbacDoc,
		}
	case metav1.StatusReasonInvalid:
		return []string{describeInvalid(status)}
	case "":
		return []string{"Error from server: " + status.Message}
	}
	return []string{fmt.Sprintf("Error from server (%s): %s", status.Reason, status.Message)}
}

func describeInvalid(status metav1.Status) string {
	details := status.Details
	if details == nil || details.Kind == "" && details.Name == "" {
		return "The request is invalid: " + status.Message
	}
	message := fmt.Sprintf("The %s %q is invalid", details.Kind, details.Name)
	for i, cause := range details.Causes {
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		message += fmt.Sprintf("%s%s: %s", separator, cause.Field, cause.Message)
	}
	return message
}

// clockHint says what to do about a certificate that is not valid at this time,
// for which the machine's own clock is to blame as often as the certificate.
func clockHint(err error) []string {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return nil
	}
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	return []string{fmt.Sprintf("hint: check this machine's clock; a certificate on the way to the server is valid from %s to %s: if that is over, restart the server, which renews its certificates", stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter))}
}

func describeConnection(err *url.Error) string {
	// A proxy that refuses is not the server.
	refused := supervisor.IsRefused(err) || strings.Contains(err.Err.Error(), "connection refused")
	if refused && !strings.Contains(err.Err.Error(), "proxyconnect") {
		host := err.URL
		if server, parseErr := url.Parse(err.URL); parseErr == nil {
			host = server.Host
		}
		return fmt.Sprintf("The connection to the server %s was refused - did you specify the right host or port?", host)
	}
	return fmt.Sprintf("Unable to connect to the server: %v", err.Err)
}
