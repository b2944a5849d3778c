package cmdutil

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
)

// completionTimeout bounds the wait of a user who has pressed TAB.
const completionTimeout = 2 * time.Second

// CompleteTokens offers the ids of the cluster's tokens, each with its life and
// description. It leaves out those that the command line names already.
func CompleteTokens(clients Clients) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		store, err := clients.Tokens()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		tokens, _, _ := store.List(ctx, "")
		var offers []string
		for _, t := range tokens {
			named := slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, t.ID) })
			if !named && strings.HasPrefix(t.ID, toComplete) {
				shown := v1alpha1.NewBootstrapToken(t, time.Now())
				ttl, _ := Lifetime(&shown, time.Now())
				offers = append(offers, cobra.CompletionWithDesc(t.ID, ttl+", "+orNone(shown.Description)))
			}
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}
