package cmdutil

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// completionTimeout is how long somebody who has pressed TAB waits for the
// cluster.
const completionTimeout = 2 * time.Second

// CompleteValues offers fixed values for a flag.
func CompleteValues(cmd *cobra.Command, flag string, values ...string) {
	complete := cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag does not exist, or has completion already
	}
}

// CompleteTokens offers the ids of the cluster's tokens, each with its life and
// description. Those that the command line names already are left out.
func CompleteTokens(clients Clients) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		store, err := clients.Tokens()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		list, err := store.List(ctx, "")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offers(list.Items, args, toComplete), cobra.ShellCompDirectiveNoFileComp
	}
}

func offers(tokens []*bootstrap.Token, args []string, toComplete string) []string {
	named := map[string]bool{}
	for _, arg := range args {
		if ref, err := bootstrap.ParseRef(arg); err == nil {
			named[ref.SecretName] = true
		}
	}
	var offers []string
	for _, t := range tokens {
		if named[t.SecretName] || !strings.HasPrefix(t.ID, toComplete) {
			continue
		}
		now := time.Now()
		shown := v1alpha1.NewBootstrapToken(t, now)
		ttl, _ := Lifetime(&shown, now)
		offers = append(offers, cobra.CompletionWithDesc(t.ID, fmt.Sprintf("%s, %s", ttl, orNone(shown.Description))))
	}
	return offers
}
