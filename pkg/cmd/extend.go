package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

type extendFlags struct {
	client   *clientFlags
	output   outputFlags
	expiry   expiryFlags
	dryRun   dryRun
	parallel parallel
}

func newExtendCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &extendFlags{client: client}
	cmd := &cobra.Command{
		Use:                   "extend TOKEN... (--ttl DURATION | --expires-at TIME)",
		Aliases:               []string{"renew"},
		DisableFlagsInUseLine: true,
		Short:                 "Give bootstrap tokens another expiry",
		Long: `
			Give bootstrap tokens another expiry, later or earlier than the one they have.
			--ttl counts from now; --ttl 0 makes a token that never expires.

			A TOKEN is an id, ID.SECRET, a whole K10 token, the name of a token's Secret,
			or secret/NAME; "-" reads them from standard input, one a line.`,
		Example: `
			# One more day from now
			kubectl k3s-token extend abcdef --ttl 24h

			# Until the end of the shift
			kubectl k3s-token extend abcdef --expires-at 2030-01-31T18:00:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := flags.toOptions(cmd, env, args)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: completeTokens(client),
	}
	flags.expiry.addFlags(cmd, "")
	flags.dryRun.addFlags(cmd)
	flags.parallel.addFlags(cmd)
	flags.output.addFlags(cmd, formatName)
	return cmd
}

// extendOptions is a checked command line.
type extendOptions struct {
	env      *Env
	client   *clientFlags
	format   string
	render   render
	expiry   expiry
	dryRun   dryRun
	parallel parallel
	refs     []bootstrap.Ref
}

func (f *extendFlags) toOptions(cmd *cobra.Command, env *Env, args []string) (*extendOptions, error) {
	o := &extendOptions{env: env, client: f.client, dryRun: f.dryRun, parallel: f.parallel}
	if len(args) == 0 {
		return nil, errors.New("name the tokens to extend")
	}
	var err error
	if o.expiry, err = f.expiry.toExpiry(cmd); err != nil {
		return nil, err
	}
	var own bool
	if o.format, own = f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	o.refs, err = env.readRefs(args)
	return o, err
}

func (o *extendOptions) run(ctx context.Context) error {
	conn, err := o.client.connect()
	if err != nil {
		return err
	}
	// One end for all, by the clock of a server that has answered.
	end := sync.OnceValues(func() (time.Time, error) { return o.expiry.at(conn.now()) })
	if err := o.env.hold(); err != nil {
		return err
	}
	tokens, errs := o.extend(ctx, conn.tokens().WithParallel(int(o.parallel)), end)
	o.env.release()
	expires, err := end()
	if err != nil {
		return err
	}
	o.env.warnIfForever(expires)
	now := conn.now()

	failed := &failures{done: "extended"}
	seen := map[string]bool{}
	var result strings.Builder
	var extended []BootstrapToken
	for i, err := range errs {
		// One token may be named twice, in two ways.
		if !failed.add(o.refs[i].String(), err) || seen[tokens[i].SecretName] {
			continue
		}
		seen[tokens[i].SecretName] = true
		extended = append(extended, newBootstrapToken(tokens[i], now))
		if problem := tokens[i].Problem; problem != "" {
			o.env.warn("token %q cannot be used: %s", tokens[i].ID, problem)
		}
		end := "never expires"
		if !expires.IsZero() {
			end = "expires at " + expires.Format(time.RFC3339)
		}
		fmt.Fprintf(&result, "bootstrap token %q %s%s\n", tokens[i].ID, end, o.dryRun.suffix())
	}
	if len(extended) > 0 {
		err = o.print(extended, result.String())
	}
	return errors.Join(failed.err(), err)
}

func (o *extendOptions) extend(ctx context.Context, store *bootstrap.Store, end bootstrap.End) ([]*bootstrap.Token, []error) {
	if o.dryRun == dryRunClient {
		tokens, errs := store.Find(ctx, o.refs)
		expires, _ := end() // run sees the error
		for _, t := range tokens {
			if t != nil {
				t.Expires = expires
			}
		}
		return tokens, errs
	}
	if o.dryRun == dryRunServer {
		store = store.WithDryRun()
	}
	return store.ExtendAll(ctx, o.refs, end)
}

func (o *extendOptions) print(extended []BootstrapToken, sentences string) error {
	if o.render == nil {
		if o.format == formatName {
			return o.env.writeResult(renderNames(secretNames(extended)...))
		}
		return o.env.writeResult([]byte(sentences))
	}
	var result []byte
	var err error
	if len(o.refs) == 1 {
		result, err = o.render(&extended[0])
	} else {
		result, err = o.render(newTokenList(extended))
	}
	if err != nil {
		return err
	}
	return o.env.writeResult(result)
}
