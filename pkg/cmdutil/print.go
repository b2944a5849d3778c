package cmdutil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// PrintFlags are kubectl's -o and its templates, with "text" as the default.
type PrintFlags struct {
	*genericclioptions.PrintFlags
	Table printers.PrintOptions

	text printers.ResourcePrinterFunc // nil for a table
}

// NewPrintFlags returns the flags for a verb with a text of its own, or with a table if
// that is nil.
func NewPrintFlags(text printers.ResourcePrinterFunc) *PrintFlags {
	return &PrintFlags{PrintFlags: genericclioptions.NewPrintFlags("").WithTypeSetter(v1alpha1.NewScheme()), text: text}
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

// IsText reports whether the flags ask for the verb's text, or its wide table.
func (f *PrintFlags) IsText() bool {
	switch *f.OutputFormat {
	case "":
		return *f.TemplatePrinterFlags.TemplateArgument == ""
	case "wide":
		return f.text == nil
	}
	return *f.OutputFormat == "text"
}

// ToPrinter returns the printer that the flags ask for, or an error for a malformed
// template. The errors of the printer do not show the object.
func (f *PrintFlags) ToPrinter() (printers.ResourcePrinter, error) {
	switch {
	case f.text != nil && f.IsText():
		return f.text, nil
	case f.IsText():
		options := f.Table
		options.Wide = *f.OutputFormat == "wide"
		return &tablePrinter{printer: printers.NewTablePrinter(options)}, nil
	case *f.OutputFormat == "name":
		return Text(secretName), nil
	}
	printer, err := f.PrintFlags.ToPrinter()
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		err = hint.Wrap(fmt.Errorf("unable to match a printer suitable for the output format %q", *f.OutputFormat),
			"use one of %s", strings.Join(f.AllowedFormats(), ", "))
	}
	return printers.ResourcePrinterFunc(func(obj runtime.Object, w io.Writer) error {
		if strings.HasPrefix(*f.OutputFormat, "jsonpath") { // its printer prints one object only
			printer, _ = f.PrintFlags.ToPrinter()
		}
		err := printer.PrintObj(obj, w)
		if err != nil {
			text, _, _ := strings.Cut(err.Error(), ". Printing more information")
			if strings.HasSuffix(text, " cannot be filtered") { // the error quotes the value
				text = "error executing jsonpath: only a list can be filtered"
			}
			err = errors.New(text)
		}
		return err
	}), err
}

// Rehearse prints a sample to nowhere, and reports whether the output has the secret. It
// finds a template that fails before a cluster changes.
func (f *PrintFlags) Rehearse(sample runtime.Object, secret token.Secret) (shown bool, err error) {
	printer, err := f.ToPrinter() // a new one, since some keep state
	if err != nil {
		return false, err
	}
	var out bytes.Buffer
	err = printer.PrintObj(sample, &out)
	return bytes.Contains(out.Bytes(), []byte(secret.Reveal())), err
}

// tablePrinter turns the kinds into tables. It remembers the widths of columns,
// so that the rows of a watch stand below one another.
type tablePrinter struct {
	printer printers.ResourcePrinter
	widths  []int
}

// PrintObj implements printers.ResourcePrinter.
func (p *tablePrinter) PrintObj(obj runtime.Object, w io.Writer) error {
	table, err := newTable(obj, time.Now())
	if err != nil || len(table.Rows) == 0 {
		return err
	}
	tabs := printers.GetNewTabWriter(w).SetRememberedWidths(p.widths)
	if err := p.printer.PrintObj(table, tabs); err != nil {
		return err
	}
	defer func() { p.widths = tabs.RememberedWidths() }()
	return tabs.Flush()
}

// PrintTable prints obj as a table.
func PrintTable(obj runtime.Object, w io.Writer) error {
	return (&tablePrinter{printer: printers.NewTablePrinter(printers.PrintOptions{})}).PrintObj(obj, w)
}

// secretName returns the name of a bootstrap token's Secret, which kubectl knows.
func secretName(t *v1alpha1.BootstrapToken) (string, error) { return "secret/" + t.Name + "\n", nil }

// Text returns a printer of the text of an object, and of each in a list of such objects.
func Text[T runtime.Object](text func(T) (string, error)) printers.ResourcePrinterFunc {
	return func(obj runtime.Object, w io.Writer) error {
		printOne := func(item runtime.Object) error {
			object, ok := item.(T)
			if !ok {
				return fmt.Errorf("%T has no name", item) // which -o name asks for
			}
			printed, err := text(object)
			if err == nil {
				_, err = io.WriteString(w, printed)
			}
			return err
		}
		if meta.IsListType(obj) {
			return meta.EachListItem(obj, printOne)
		}
		return printOne(obj)
	}
}
