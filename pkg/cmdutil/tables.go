package cmdutil

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// newTable returns the table for one of the kinds.
func newTable(obj runtime.Object, now time.Time) (*metav1.Table, error) {
	switch obj := obj.(type) {
	case *v1alpha1.BootstrapToken:
		return bootstrapTokenTable([]v1alpha1.BootstrapToken{*obj}, now), nil
	case *v1alpha1.BootstrapTokenList:
		return bootstrapTokenTable(obj.Items, now), nil
	case *v1alpha1.Verification:
		return verificationTable([]v1alpha1.Verification{*obj}), nil
	case *v1alpha1.VerificationList:
		return verificationTable(obj.Items), nil
	}
	return nil, fmt.Errorf("%T has no table", obj)
}

// columns returns definitions of columns. Those of priority 1 are for -o wide.
func columns(priority int32, names ...string) []metav1.TableColumnDefinition {
	var definitions []metav1.TableColumnDefinition
	for _, name := range names {
		definitions = append(definitions, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: priority})
	}
	return definitions
}

func bootstrapTokenTable(tokens []v1alpha1.BootstrapToken, now time.Time) *metav1.Table {
	table := &metav1.Table{ColumnDefinitions: slices.Concat(
		columns(0, "Token", "TTL", "Expires", "Status", "Description"), columns(1, "Usages", "Extra Groups", "Age"))}
	for i := range tokens {
		t := &tokens[i]
		ttl, expires := Lifetime(t, now)
		status := t.Status
		if t.Problem != "" {
			status += ": " + t.Problem
		}
		cells := []any{
			t.ID, ttl, expires, status, orNone(t.Description),
			orNone(strings.Join(t.Usages, ",")), orNone(strings.Join(t.Groups, ",")), metatable.ConvertToHumanReadableDateType(t.CreationTimestamp),
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells, Object: runtime.RawExtension{Object: t}})
	}
	return table
}

// Lifetime returns the remaining life of a token and its end, as texts.
func Lifetime(t *v1alpha1.BootstrapToken, now time.Time) (ttl, expires string) {
	switch {
	case t.Expires == nil && t.Status == "Invalid":
		return "<invalid>", "<invalid>"
	case t.Expires == nil:
		return "<forever>", "<never>"
	case t.Expires.After(now):
		ttl = duration.ShortHumanDuration(t.Expires.Sub(now))
	default:
		ttl = "<expired>"
	}
	return ttl, t.Expires.UTC().Format(time.RFC3339)
}

func orNone(text string) string { return cmp.Or(text, "<none>") }

func verificationTable(verifications []v1alpha1.Verification) *metav1.Table {
	names := []string{"Server", "Result", "Detail"}
	old := slices.ContainsFunc(verifications, func(v v1alpha1.Verification) bool { return v.OldToken != "" })
	if old {
		names = []string{"Server", "Result", "Old Token", "Detail"}
	}
	table := &metav1.Table{ColumnDefinitions: columns(0, names...)}
	for i := range verifications {
		v := &verifications[i]
		cells := []any{v.Server, v.Verdict}
		if old {
			cells = append(cells, orNone(v.OldToken))
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: append(cells, whoJoins(v))})
	}
	return table
}

// whoJoins says which nodes can join, or why none can.
func whoJoins(v *v1alpha1.Verification) string {
	switch {
	case v.JoinsAgents && v.JoinsServers:
		return "agents and servers can join"
	case v.JoinsAgents:
		return "agents can join"
	case v.JoinsServers:
		return "servers can join"
	}
	decisive := slices.IndexFunc(v.Roles, func(r v1alpha1.VerificationRole) bool { return r.Verdict == v.Verdict })
	role := v.Roles[decisive]
	return strings.TrimSuffix(role.Reason+"; "+role.Hint, "; ")
}

// TokenKind names a type of token for people.
func TokenKind(t token.Type) string {
	if t == token.Password {
		return "password of a server token or an agent token"
	}
	return string(t) + " token"
}
