package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// printText prints the steps and the conclusions for one server, and a table for
// several.
func printText(obj runtime.Object, w io.Writer) error {
	v, ok := obj.(*v1alpha1.Verification)
	if !ok {
		return cmdutil.PrintTable(obj, w)
	}
	lines := []string{"Server:\t" + v.Server, "Token:\t" + describe(v), "CA hash:\t" + cmp.Or(v.CAHash, "<unknown>"), ""}
	lines = append(append(lines, steps(v.Roles)...), "")
	if t := v.BootstrapToken; t != nil {
		_, expires := cmdutil.Lifetime(t, time.Now())
		lines = append(lines,
			"Description:\t"+cmp.Or(t.Description, "<none>"),
			"Expires:\t"+expires,
			"Groups:\t"+cmp.Or(strings.Join(t.Groups, ","), "<none>"),
			"Usages:\t"+cmp.Or(strings.Join(t.Usages, ","), "<none>"),
			"")
	}
	lines = append(append(lines, conclusions(v)...), "")
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(columns, strings.Join(lines, "\n"))
	return errors.Join(err, columns.Flush())
}

func describe(v *v1alpha1.Verification) string {
	described := cmdutil.TokenKind(token.Type(v.Token.Type))
	if v.Token.ID != "" {
		described += " " + v.Token.ID
	}
	if v.Token.CAHash == "" {
		described += ", without a CA hash"
	}
	if t := v.BootstrapToken; t != nil && t.Status == string(bootstrap.Invalid) {
		described += fmt.Sprintf("; secret/%s is malformed: %s", t.Name, t.Problem)
	}
	return described
}

// steps returns a line for each step, with a column for each role.
func steps(roles []v1alpha1.VerificationRole) []string {
	longest := slices.MaxFunc(roles, func(a, b v1alpha1.VerificationRole) int { return len(a.Steps) - len(b.Steps) })
	lines := []string{"STEP"}
	for _, role := range roles {
		lines[0] += "\t" + strings.ToUpper(role.Role)
	}
	for i, step := range longest.Steps {
		line := fmt.Sprintf("%d  %s", i+1, step.Name)
		for _, role := range roles {
			line += "\t"
			if i < len(role.Steps) {
				line += strings.Replace(role.Steps[i].Status, string(supervisor.Passed), "ok", 1)
			}
		}
		lines = append(lines, strings.TrimRight(line, "\t"))
	}
	return lines
}

// conclusions says for each role whether a node joins.
func conclusions(v *v1alpha1.Verification) (lines []string) {
	hostTrusts := false
	for _, r := range v.Roles {
		lines = append(lines, map[string]string{"agent": "As an agent:\t", "server": "As a server:\t"}[r.Role]+conclusion(r))
		if r.Hint != "" {
			lines = append(lines, "\thint: "+r.Hint)
		}
		hostTrusts = hostTrusts || r.HostTrusts && r.Joins
	}
	if v.OldToken != "" {
		lines = append(lines, "Old token:\t"+v.OldToken)
	}
	if hostTrusts {
		lines = append(lines, "This machine's trusted CAs vouch for the server: a node that has them ignores the CA hash.")
	}
	return lines
}

func conclusion(r v1alpha1.VerificationRole) string {
	if r.Joins {
		return "joins"
	}
	lead := "does not join"
	switch supervisor.Verdict(r.Verdict) {
	case supervisor.Unproved:
		lead = "not sent, but a node sends it"
	case supervisor.NoAnswer:
		lead = "not known"
	}
	return lead + ": " + r.Reason
}
