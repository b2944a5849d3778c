package create

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// removeTimeout is how long remove tries.
const removeTimeout = 30 * time.Second

// Store has the methods of a bootstrap.Store that create uses.
type Store interface {
	Create(ctx context.Context, t *bootstrap.Token) error
	Undo(ctx context.Context, t *bootstrap.Token) error
}

// create returns the tokens that it made, those that may exist since the answer was
// lost, and why others do not.
func (o *Options) create(ctx context.Context, store Store) (made, lost []*bootstrap.Token, _ error) {
	tokens := make([]bootstrap.Token, o.Count)
	results := cmdutil.ForEach(ctx, o.Count, func(i int) (err error) {
		tokens[i] = o.Token
		if o.DryRun != cmdutil.DryRunClient {
			return store.Create(ctx, &tokens[i])
		}
		if o.Token.ID == "" {
			tokens[i].Token, err = bootstrap.Generate()
		}
		return err
	})
	var errs []error
	for i, err := range results {
		var uncertain *bootstrap.UncertainError
		switch {
		case err == nil:
			made = append(made, &tokens[i])
			continue
		case errors.As(err, &uncertain) && o.DryRun == cmdutil.DryRunNone:
			lost = append(lost, &tokens[i])
		case apierrors.IsAlreadyExists(err) && o.Token.ID != "":
			err = hint.Wrap(fmt.Errorf("token %q already exists", o.Token.ID), "choose another id, or leave TOKEN out to have one generated")
		}
		errs = append(errs, err)
	}
	if len(lost) > 0 {
		errs = append(errs, remaining("perhaps created, since the answer was lost", lost))
	}
	return made, lost, errors.Join(errs...)
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
	o.WarnAboutExpiry(made[0].Updated, made[0].Expires)
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

// undo removes tokens that did not reach the user.
func (o *Options) undo(ctx context.Context, store Store, tokens []*bootstrap.Token) error {
	if len(tokens) == 0 || o.DryRun != cmdutil.DryRunNone {
		return nil
	}
	o.Notef("removing %s that you have not seen", cmdutil.CountTokens(len(tokens)))
	return remove(ctx, store, tokens)
}

// remove removes tokens, also after an interrupt, and names those that may be left.
func remove(ctx context.Context, store Store, tokens []*bootstrap.Token) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	errs := cmdutil.ForEach(ctx, len(tokens), func(i int) error { return store.Undo(ctx, tokens[i]) })
	var left []*bootstrap.Token
	for i, err := range errs {
		if err != nil {
			left = append(left, tokens[i])
		}
	}
	if len(left) == 0 {
		return nil
	}
	return errors.Join(append(errs, remaining("not removed", left))...)
}

// remaining names tokens that the cluster may hold although they are not wanted.
func remaining(state string, tokens []*bootstrap.Token) error {
	return hint.Wrap(fmt.Errorf("%s %s: %s", cmdutil.CountTokens(len(tokens)), state, ids(tokens)),
		"run later: kubectl k3s-token delete --ignore-not-found %s", ids(tokens))
}

func ids(tokens []*bootstrap.Token) string {
	ids := make([]string, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	return strings.Join(ids, " ")
}

// rehearse prints a sample, so that a template that does not fit is found before
// there is a token. It warns of one that leaves the secret out.
func (o *Options) rehearse() error {
	printer, err := o.Print.ToPrinter() // a new one, since some keep state
	if err != nil {
		return err
	}
	sample := o.Token
	sample.Token = token.Token{ID: "aaaaaa", Secret: "aaaaaaaaaaaaaaaa"}
	var out bytes.Buffer
	if err := printer.PrintObj(o.object(slices.Repeat([]*bootstrap.Token{&sample}, o.Count)), &out); err != nil {
		return err
	}
	if o.Token.ID == "" && !bytes.Contains(out.Bytes(), []byte(sample.Secret.Reveal())) {
		o.Warnf("the output leaves out the token's secret, which is not shown again: add .token to it")
	}
	return nil
}

// object returns the object to print: the token, or a list with --count.
func (o *Options) object(tokens []*bootstrap.Token) runtime.Object {
	list := &v1alpha1.BootstrapTokenList{}
	for _, t := range tokens {
		shown := v1alpha1.NewBootstrapToken(t, time.Now())
		full := t.Token
		if o.Format == token.SecureFormat {
			full = full.WithCAHash(o.CA.Hash)
		}
		shown.Token, shown.CAHash, shown.Server = full.Reveal(), o.CA.Hash, o.Params.URL.String()
		list.Items = append(list.Items, shown)
	}
	if o.Count == 1 {
		return &list.Items[0]
	}
	return list
}

// printText prints the token, or the text to paste on the new machine.
func (o *Options) printText(obj runtime.Object, w io.Writer) (err error) {
	line := obj.(*v1alpha1.BootstrapToken).Token
	if o.Join != "" {
		params := o.Params
		if params.Token, err = token.Parse(line); err != nil {
			return err
		}
		if line, err = join.Command(o.Join, params); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(w, line)
	return err
}
