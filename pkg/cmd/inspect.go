package cmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

type inspectFlags struct {
	output    outputFlags
	tokenFile string
	caFile    string
}

func newInspectCommand(env *Env) *cobra.Command {
	flags := &inspectFlags{}
	cmd := &cobra.Command{
		Use:                   "inspect (TOKEN | - | --token-file FILE)",
		DisableFlagsInUseLine: true,
		Short:                 "Say what a token is, offline, without its secret",
		Long: `
			Say what can be told of a token by looking at it: format, type, id, CA hash, and
			where it is malformed. No cluster is asked, and the secret is never shown.

			Others on this machine can read what stands on a command line, so prefer "-" or
			--token-file to a TOKEN argument.`,
		Example: `
			# A token from a file, such as a server's node-token
			kubectl k3s-token inspect --token-file node-token

			# Does the token belong to that CA?
			kubectl k3s-token inspect --token-file node-token --ca-file server-ca.crt`,
		Args: atMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseEmpty(cmd, "token-file", "ca-file"); err != nil {
				return err
			}
			options, err := flags.toOptions(env, args)
			if err != nil {
				return err
			}
			return options.run()
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&flags.tokenFile, "token-file", "", "File that holds the token.")
	f.StringVar(&flags.caFile, "ca-file", "", "File with CA certificates to compare the token's CA hash with.")
	flags.output.addFlags(cmd)
	return cmd
}

// inspectOptions is a checked command line.
type inspectOptions struct {
	env    *Env
	render render // nil for text
	token  string
	caHash string
}

func (f *inspectFlags) toOptions(env *Env, args []string) (*inspectOptions, error) {
	o := &inspectOptions{env: env}
	var err error
	if _, own := f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	if f.caFile != "" {
		ca, err := cluster.ReadCAFile(f.caFile, env.Now())
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		o.caHash = ca.Hash
	}
	switch {
	case len(args) == 1 && f.tokenFile != "":
		return nil, errors.New("give TOKEN or --token-file, not both")
	case len(args) == 1:
		o.token, err = env.readToken(args[0])
	case f.tokenFile != "":
		o.token, err = readTokenFile(f.tokenFile)
	default:
		err = errors.New(`give a TOKEN, "-" to read it from standard input, or --token-file`)
	}
	return o, err
}

func (o *inspectOptions) run() error {
	t, malformed := token.Parse(o.token)
	info := newTokenInfo(t)
	if malformed != nil {
		info = &TokenInfo{TypeMeta: typeMeta("TokenInfo"), Problem: malformed.Error()}
	}
	if o.caHash != "" && malformed == nil && t.CAHash != "" {
		matches := t.CAHash == o.caHash
		info.CAMatches = &matches
	}
	result := []byte(info.text())
	if o.render != nil {
		var err error
		if result, err = o.render(info); err != nil {
			return err
		}
	}
	if err := o.env.writeResult(result); err != nil {
		return err
	}
	switch {
	case malformed != nil:
		return fmt.Errorf("malformed token: %w", malformed)
	case o.caHash != "" && info.CAMatches == nil:
		return errors.New("the token has no CA hash to compare with --ca-file")
	case o.caHash != "" && !*info.CAMatches:
		return fmt.Errorf("the token's CA hash is not the one of --ca-file, which is %s: the token is another cluster's", o.caHash)
	}
	return nil
}

// text returns the lines for people.
func (i *TokenInfo) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s%s\n", name+":", printable(value))
		}
	}
	yesNo := map[bool]string{true: "yes", false: "no"}
	if !i.WellFormed {
		line("Well-formed", "no, "+i.Problem)
		return b.String()
	}
	line("Well-formed", "yes")
	line("Format", i.Format)
	line("Type", kindOfToken(token.Type(i.Type)))
	line("ID", i.ID)
	line("User", i.User)
	if i.CAHash == "" {
		line("CA hash", "none: a node that joins with it trusts whatever server answers")
	}
	line("CA hash", i.CAHash)
	if i.CAMatches != nil {
		line("CA matches", yesNo[*i.CAMatches])
	}
	line("Hint", i.Hint)
	return b.String()
}

// kindOfToken names a type of tokens for people.
func kindOfToken(t token.Type) string {
	switch t {
	case token.Bootstrap:
		return "bootstrap token"
	case token.Server:
		return "server token"
	case token.Agent:
		return "agent token"
	}
	return "password, of a server token or an agent token"
}
