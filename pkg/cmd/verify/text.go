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
	var out strings.Builder
	fmt.Fprintf(&out, "Server:\t%s\nToken:\t%s\nCA hash:\t%s\n\n", v.Server, describe(v), cmp.Or(v.CAHash, "<unknown>"))
	printSteps(&out, v.Roles)
	if t := v.BootstrapToken; t != nil {
		_, expires := cmdutil.Lifetime(t, time.Now())
		groups, usages := strings.Join(t.Groups, ","), strings.Join(t.Usages, ",")
		fmt.Fprintf(&out, "Description:\t%s\nExpires:\t%s\nGroups:\t%s\nUsages:\t%s\n\n",
			cmp.Or(t.Description, "<none>"), expires, cmp.Or(groups, "<none>"), cmp.Or(usages, "<none>"))
	}
	printConclusions(&out, v)
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(columns, out.String())
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

// printSteps prints a line for each step, with a column for each role.
func printSteps(out *strings.Builder, roles []v1alpha1.VerificationRole) {
	longest := slices.MaxFunc(roles, func(a, b v1alpha1.VerificationRole) int { return len(a.Steps) - len(b.Steps) })
	line := "STEP"
	for _, role := range roles {
		line += "\t" + strings.ToUpper(role.Role)
	}
	fmt.Fprintln(out, line)
	for i, step := range longest.Steps {
		line := fmt.Sprintf("%d  %s", i+1, step.Name)
		for _, role := range roles {
			line += "\t"
			if i < len(role.Steps) {
				line += strings.Replace(role.Steps[i].Status, supervisor.Passed, "ok", 1)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line, "\t"))
	}
	fmt.Fprintln(out)
}

// printConclusions says for each role whether a node joins.
func printConclusions(out *strings.Builder, v *v1alpha1.Verification) {
	hostTrusts := false
	for _, r := range v.Roles {
		article := map[string]string{"agent": "an", "server": "a"}[r.Role]
		fmt.Fprintf(out, "As %s %s:\t%s\n", article, r.Role, conclusion(r))
		if r.Hint != "" {
			fmt.Fprintf(out, "\thint: %s\n", r.Hint)
		}
		hostTrusts = hostTrusts || r.HostTrusts && r.Joins
	}
	if v.OldToken != "" {
		fmt.Fprintf(out, "Old token:\t%s\n", v.OldToken)
	}
	if hostTrusts {
		fmt.Fprintln(out, "This machine's trusted CAs vouch for the server: a node that has them ignores the CA hash.")
	}
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
