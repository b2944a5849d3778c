package cmdutil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
)

// PrintFlags are kubectl's -o and its templates, with "text" as the default. The
// text is a table unless the verb prints it itself.
type PrintFlags struct {
	*genericclioptions.PrintFlags

	// Table holds the options of the table.
	Table printers.PrintOptions

	text printers.ResourcePrinter
}

// NewPrintFlags returns the flags for a verb whose text is a table.
func NewPrintFlags() *PrintFlags {
	return &PrintFlags{PrintFlags: genericclioptions.NewPrintFlags("").WithTypeSetter(v1alpha1.NewScheme())}
}

// WithText has the verb print its text itself.
func (f *PrintFlags) WithText(text printers.ResourcePrinterFunc) *PrintFlags {
	f.text = text
	return f
}

// AllowedFormats returns the values of -o.
func (f *PrintFlags) AllowedFormats() []string {
	formats := append(f.PrintFlags.AllowedFormats(), "text")
	if f.text == nil {
		formats = append(formats, "wide")
	}
	return formats
}

// AddFlags adds the flags to a command.
func (f *PrintFlags) AddFlags(cmd *cobra.Command) {
	f.PrintFlags.AddFlags(cmd)
	cmd.Flag("output").Usage = "Output format. One of: (" + strings.Join(f.AllowedFormats(), ", ") + ")."
	cmd.Flag("show-managed-fields").Hidden = true // the kinds have none
	CompleteValues(cmd, "output", f.AllowedFormats()...)
}

// IsText tells whether the verb's text is asked for, or its wide table.
func (f *PrintFlags) IsText() bool {
	switch *f.OutputFormat {
	case "":
		return *f.TemplatePrinterFlags.TemplateArgument == ""
	case "wide":
		return f.text == nil
	}
	return *f.OutputFormat == "text"
}

// ToPrinter returns the printer that the flags ask for. A malformed template is
// an error.
func (f *PrintFlags) ToPrinter() (printers.ResourcePrinter, error) {
	switch {
	case f.text != nil && f.IsText():
		return f.text, nil
	case f.IsText():
		options := f.Table
		options.Wide = *f.OutputFormat == "wide"
		return newTablePrinter(options), nil
	case *f.OutputFormat == "name":
		return printers.ResourcePrinterFunc(printNames), nil
	}
	printer, err := f.PrintFlags.ToPrinter()
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		err = WithHint(fmt.Errorf("unable to match a printer suitable for the output format %q", *f.OutputFormat),
			"use one of %s", strings.Join(f.AllowedFormats(), ", "))
	}
	return briefPrinter{printer}, err
}

// briefPrinter leaves the object out of the error of a template, since it may
// hold a secret.
type briefPrinter struct{ printers.ResourcePrinter }

// PrintObj implements printers.ResourcePrinter.
func (p briefPrinter) PrintObj(obj runtime.Object, w io.Writer) error {
	err := p.ResourcePrinter.PrintObj(obj, w)
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), ". Printing more information")
		err = errors.New(text)
	}
	return err
}

// tablePrinter turns the kinds into tables. It remembers the widths of columns,
// so that the rows of a watch stand below one another.
type tablePrinter struct {
	printers.ResourcePrinter
	out  *bytes.Buffer
	tabs interface { // writes to out
		io.Writer
		Flush() error
	}
}

func newTablePrinter(options printers.PrintOptions) tablePrinter {
	out := &bytes.Buffer{}
	return tablePrinter{printers.NewTablePrinter(options), out, printers.GetNewTabWriter(out)}
}

// PrintObj implements printers.ResourcePrinter.
func (p tablePrinter) PrintObj(obj runtime.Object, w io.Writer) error {
	table, err := newTable(obj, time.Now())
	if err != nil || len(table.Rows) == 0 {
		return err
	}
	if err := p.ResourcePrinter.PrintObj(table, p.tabs); err != nil {
		return err
	}
	if err := p.tabs.Flush(); err != nil {
		return err
	}
	_, err = p.out.WriteTo(w)
	return err
}

// PrintTable prints obj as a table.
func PrintTable(obj runtime.Object, w io.Writer) error {
	return newTablePrinter(printers.PrintOptions{}).PrintObj(obj, w)
}

// printNames prints the names of bootstrap tokens as those of their Secrets,
// which kubectl knows.
func printNames(obj runtime.Object, w io.Writer) error {
	tokens := Tokens(obj)
	if tokens == nil {
		return fmt.Errorf("%T has no name", obj)
	}
	printer := printers.NamePrinter{ShortOutput: true}
	for i := range tokens {
		secret := &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: tokens[i].ObjectMeta,
		}
		if err := printer.PrintObj(secret, w); err != nil {
			return err
		}
	}
	return nil
}

// Tokens returns the bootstrap tokens in a result: itself, or those of a list.
func Tokens(obj runtime.Object) []v1alpha1.BootstrapToken {
	switch obj := obj.(type) {
	case *v1alpha1.BootstrapToken:
		return []v1alpha1.BootstrapToken{*obj}
	case *v1alpha1.BootstrapTokenList:
		return obj.Items
	}
	return nil
}
