package create

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// undoTimeout is how long tokens that were not delivered are tried to be removed
// again.
const undoTimeout = 30 * time.Second

// Store is what create needs of a store of bootstrap tokens.
type Store interface {
	Create(ctx context.Context, t *bootstrap.Token) error
	Undo(ctx context.Context, t *bootstrap.Token) error
}

// create returns the tokens that it made, in their order, and why it did not make
// the others. One that may exist, since the answer was lost, is removed again.
func (o *Options) create(ctx context.Context, store Store, tokens []*bootstrap.Token) ([]*bootstrap.Token, error) {
	errs := cmdutil.ForEach(ctx, len(tokens), func(i int) (err error) {
		if o.DryRun != cmdutil.DryRunClient {
			return store.Create(ctx, tokens[i])
		}
		if tokens[i].ID == "" {
			tokens[i].Token, err = bootstrap.Generate()
		}
		return err
	})
	var made, uncertain []*bootstrap.Token
	var failures []error
	for i, err := range errs {
		var unknown *bootstrap.UncertainError
		switch {
		case err == nil:
			made = append(made, tokens[i])
			continue
		case errors.As(err, &unknown):
			uncertain = append(uncertain, tokens[i])
		case apierrors.IsAlreadyExists(err) && o.given.ID != "":
			err = cmdutil.WithHint(fmt.Errorf("token %q already exists", o.given.ID), "choose another id, or leave TOKEN out to have one generated")
		}
		failures = append(failures, err)
	}
	if len(uncertain) > 0 && o.DryRun == cmdutil.DryRunNone {
		ids := make([]string, len(uncertain))
		for i, t := range uncertain {
			ids[i] = t.ID
		}
		failures = append(failures, unseen("perhaps created, since the answer was lost", ids), o.undo(ctx, store, uncertain))
	}
	return made, errors.Join(failures...)
}

// deliver writes the tokens to the file or standard output, or returns why they
// have not reached the user.
func (o *Options) deliver(ctx context.Context, printer printers.ResourcePrinter, file *cmdutil.OutputFile, made []*bootstrap.Token) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(made) == 0 {
		return nil
	}
	o.WarnAboutClock(made[0].Updated, made[0].Expires)
	var result bytes.Buffer
	err := printer.PrintObj(o.object(made), &result)
	switch {
	case err != nil:
	case file != nil && o.DryRun == cmdutil.DryRunNone:
		err = file.Write(result.Bytes())
	default:
		err = o.Write(ctx, result.Bytes())
	}
	switch {
	case err != nil:
		return fmt.Errorf("the token could not be written out: %v", err) //nolint:errorlint // a broken pipe is an error here
	case o.DryRun != cmdutil.DryRunNone:
		o.Notef("%s not created%s", cmdutil.CountTokens(len(made)), o.DryRun.Suffix())
	case file != nil:
		o.Notef("%s written to %s", cmdutil.CountTokens(len(made)), file.Name())
	}
	return nil
}

// undo removes tokens that did not reach the user. Its error names those that may
// be left.
func (o *Options) undo(ctx context.Context, store Store, tokens []*bootstrap.Token) error {
	if len(tokens) == 0 || o.DryRun != cmdutil.DryRunNone {
		return nil
	}
	o.Notef("removing %s that you have not seen", cmdutil.CountTokens(len(tokens)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var left []string
	var errs []error
	for i, err := range cmdutil.ForEach(ctx, len(tokens), func(i int) error { return store.Undo(ctx, tokens[i]) }) {
		if err != nil {
			left, errs = append(left, tokens[i].ID), append(errs, err)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return errors.Join(append(errs, unseen("not removed", left))...)
}

// unseen names tokens that the cluster may hold although nobody has seen them.
func unseen(state string, ids []string) error {
	list := strings.Join(ids, " ")
	return cmdutil.WithHint(fmt.Errorf("%s %s: %s", cmdutil.CountTokens(len(ids)), state, list),
		"run later: kubectl k3s-token delete --ignore-not-found %s", list)
}

// rehearse prints a sample, so that a template that does not fit is found before
// there is a token, and warns of one that leaves the secret out.
func (o *Options) rehearse(printer printers.ResourcePrinter, tokens []*bootstrap.Token) error {
	sample := *tokens[0]
	sample.Token = token.Token{ID: "aaaaaa", Secret: "aaaaaaaaaaaaaaaa"}
	samples := []*bootstrap.Token{&sample}
	if len(tokens) > 1 {
		samples = append(samples, &sample)
	}
	var out bytes.Buffer
	if err := printer.PrintObj(o.object(samples), &out); err != nil {
		return err
	}
	if o.given.ID == "" && !bytes.Contains(out.Bytes(), []byte(sample.Secret.Reveal())) {
		o.Warnf("the output leaves out the token's secret, which is not shown again: add .token to it")
	}
	return nil
}

// object returns what is printed: the token, or a list with --count.
func (o *Options) object(tokens []*bootstrap.Token) runtime.Object {
	list := &v1alpha1.BootstrapTokenList{}
	for _, t := range tokens {
		shown := v1alpha1.NewBootstrapToken(t, time.Now())
		full := t.Token
		if o.Format == string(token.SecureFormat) {
			full = full.WithCAHash(o.facts.ca.Hash)
		}
		shown.Token, shown.CAHash, shown.Server = full.Reveal(), o.facts.ca.Hash, o.facts.url.String()
		list.Items = append(list.Items, shown)
	}
	if o.Count == 1 {
		return &list.Items[0]
	}
	return list
}

// printText prints a line a token: the token itself, or what to paste on the new
// machine.
func (o *Options) printText(obj runtime.Object, w io.Writer) error {
	for _, shown := range cmdutil.Tokens(obj) {
		line := shown.Token
		if o.Join != "" {
			t, err := token.Parse(line)
			if err != nil {
				return err
			}
			line, err = join.Command(join.Kind(o.Join), join.Params{
				URL: o.facts.url, Token: t, Distribution: o.facts.distribution, Version: o.facts.version,
			})
			if err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
