package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

type generateFlags struct {
	output    outputFlags
	tokenType string
	caFile    string
	count     int
}

func newGenerateCommand(env *Env) *cobra.Command {
	flags := &generateFlags{}
	cmd := &cobra.Command{
		Use:                   "generate",
		DisableFlagsInUseLine: true,
		Short:                 "Generate a token offline",
		Long: `
			Generate a random token and print it. No cluster is asked and none knows the
			token: give a bootstrap token to "create -", and the password of a server token
			or agent token to a new server's --token or --agent-token.`,
		Example: `
			# A bootstrap token, <id>.<secret>
			kubectl k3s-token generate

			# The server token of a cluster that is yet to be
			kubectl k3s-token generate --type server

			# In secure format, for a CA that exists already
			kubectl k3s-token generate --ca-file server-ca.crt`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd, "ca-file"); err != nil {
				return err
			}
			options, err := flags.toOptions(env)
			if err != nil {
				return err
			}
			return options.run()
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&flags.tokenType, "type", string(token.Bootstrap), "What the token is for: bootstrap, server, agent.")
	f.IntVar(&flags.count, "count", 1, fmt.Sprintf("How many tokens to generate, at most %d.", maxCount))
	f.StringVar(&flags.caFile, "ca-file", "", "File with the server's CA certificates (server/tls/server-ca.crt in its data directory): print the token in secure format.")
	flags.output.addFlags(cmd)
	completeValues(cmd, "type", string(token.Bootstrap), string(token.Server), string(token.Agent))
	return cmd
}

// generateOptions is a checked command line.
type generateOptions struct {
	env    *Env
	render render // nil where the tokens are printed bare
	draw   func() (token.Token, error)
	caHash string
	count  int
}

func (f *generateFlags) toOptions(env *Env) (*generateOptions, error) {
	o := &generateOptions{env: env, count: f.count}
	switch token.Type(f.tokenType) {
	case token.Bootstrap:
		o.draw = func() (token.Token, error) { return token.GenerateBootstrap(env.Random) }
	case token.Server:
		o.draw = func() (token.Token, error) { return token.GeneratePassword(env.Random, token.UserServer) }
	case token.Agent:
		o.draw = func() (token.Token, error) { return token.GeneratePassword(env.Random, token.UserNode) }
	default:
		return nil, fmt.Errorf("--type %q: it takes bootstrap, server or agent", f.tokenType)
	}
	if f.count < 1 || f.count > maxCount {
		return nil, fmt.Errorf("--count %d: it takes a number from 1 to %d", f.count, maxCount)
	}
	if f.caFile != "" {
		ca, err := cluster.ReadCAFile(f.caFile, env.Now())
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		o.caHash = ca.Hash
	}
	if _, own := f.output.own(); !own {
		var err error
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *generateOptions) run() error {
	if err := o.env.refuseLostOutput(); err != nil {
		return err
	}
	var lines strings.Builder
	items := make([]GeneratedToken, o.count)
	secrets := make([]token.Secret, o.count)
	for i := range items {
		t, err := o.draw()
		if err != nil {
			return err
		}
		t = t.WithCAHash(o.caHash)
		secrets[i] = t.Secret
		items[i] = GeneratedToken{
			TypeMeta: typeMeta("GeneratedToken"),
			Type:     string(t.Type()),
			ID:       t.ID,
			User:     t.User,
			Token:    t.Reveal(),
			CAHash:   t.CAHash,
		}
		lines.WriteString(t.Reveal() + "\n")
	}
	if o.render == nil {
		return o.env.writeResult([]byte(lines.String()))
	}
	var result []byte
	var err error
	if o.count == 1 {
		result, err = o.render(&items[0], secrets...)
	} else {
		result, err = o.render(&GeneratedTokenList{TypeMeta: typeMeta("GeneratedTokenList"), Items: items}, secrets...)
	}
	if err != nil {
		return err
	}
	return o.env.writeResult(result)
}
