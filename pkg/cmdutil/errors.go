package cmdutil

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// rbacURL is the document that says which permissions each command needs.
const rbacURL = "https://github.com/k3s-token/kubectl-k3s-token/blob/main/docs/rbac.yaml"

// ReportError writes err to w as kubectl does, and a line "hint: ..." if there
// is something to do. Joined errors have a line each, without duplicates. Tokens
// are hidden, since some errors quote the value of a flag.
func ReportError(w io.Writer, err error) {
	tokens := regexp.MustCompile(`K10\w*::[^\s"]+|\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	var lines []string
	for _, err := range flatten(err) {
		for _, line := range []string{message(err), advice(err)} {
			if line != "" && !slices.Contains(lines, line) {
				lines = append(lines, line)
				_ = printers.WriteEscaped(w, tokens.ReplaceAllString(line, "<token>")+"\n")
			}
		}
	}
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

// message returns the line for err. Errors of the API or the connection have kubectl's
// words (StandardErrorMessage in k8s.io/kubectl/pkg/cmd/util).
func message(err error) string {
	if hinted, ok := err.(*hint.Error); ok { //nolint:errorlint // only the outermost error
		err = hinted.Unwrap()
	}
	var write *fs.PathError
	switch {
	case errors.Is(err, context.Canceled):
		return "error: interrupted"
	case errors.As(err, &write) && errors.Is(write, syscall.EPIPE):
		return "" // the reader has seen enough, as in "list | head"
	}
	switch err := err.(type) { //nolint:errorlint // only the outermost error
	case *apierrors.StatusError:
		switch reason := err.ErrStatus.Reason; reason {
		case metav1.StatusReasonUnauthorized:
			return fmt.Sprintf("error: You must be logged in to the server (%v)", err)
		case "":
			return fmt.Sprintf("Error from server: %v", err)
		default:
			return fmt.Sprintf("Error from server (%s): %v", reason, err)
		}
	case *url.Error:
		if server, parseErr := url.Parse(err.URL); parseErr == nil && utilnet.IsConnectionRefused(err) {
			return fmt.Sprintf("The connection to the server %s was refused - did you specify the right host or port?", server.Host)
		}
		return fmt.Sprintf("Unable to connect to the server: %v", err.Err)
	case *bootstrap.UncertainError: // the command names the tokens
		return message(err.Err)
	}
	return "error: " + strings.TrimPrefix(err.Error(), "error: ")
}

// advice returns the line with advice about err, or nothing.
func advice(err error) string {
	var invalid x509.CertificateInvalidError
	switch {
	case hint.Of(err) != "":
		return "hint: " + hint.Of(err)
	case apierrors.IsForbidden(err) && regexp.MustCompile(`is forbidden: User ".*" cannot `).MatchString(err.Error()):
		// A quota or an admission policy forbids in other words.
		return "hint: the Role for each command is in " + rbacURL
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "hint: check this machine's clock; a server renews its certificates when it is restarted"
	}
	return ""
}
