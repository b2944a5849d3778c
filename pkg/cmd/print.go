package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// outputFlags is -o and what goes with it.
type outputFlags struct {
	format   string
	text     []string // the formats that the command prints itself, by name
	template *genericclioptions.KubeTemplatePrintFlags
}

// Formats that a command prints itself.
const (
	formatText = "text"
	formatWide = "wide"
	formatName = "name"
)

// addFlags adds -o. own are the formats that the command prints itself,
// besides text.
func (f *outputFlags) addFlags(cmd *cobra.Command, own ...string) {
	f.text = append([]string{formatText}, own...)
	f.template = genericclioptions.NewKubeTemplatePrintFlags()
	f.template.AddFlags(cmd)
	formats := slices.Concat([]string{"json", "yaml", "kyaml"}, f.text, []string{"jsonpath", "jsonpath-as-json", "jsonpath-file", "go-template", "go-template-file"})
	cmd.Flags().StringVarP(&f.format, "output", "o", "", "Output format. One of: ("+strings.Join(formats, ", ")+").")
	completeValues(cmd, "output", formats...)
}

// A render writes an object in the format that the user asked for.
type render func(obj runtime.Object, secrets ...token.Secret) ([]byte, error)

// own returns the format, where the command prints it itself.
func (f *outputFlags) own() (string, bool) {
	format := strings.ToLower(f.format)
	if format == "" && *f.template.TemplateArgument == "" {
		format = formatText
	}
	return format, slices.Contains(f.text, format)
}

// toRender returns the printer for a format that the command does not print
// itself. A malformed template is an error here, before any work is done.
func (f *outputFlags) toRender() (render, error) {
	if _, err := f.toPrinter(); err != nil {
		return nil, err
	}
	return func(obj runtime.Object, secrets ...token.Secret) ([]byte, error) {
		// A JSONPath printer remembers where its last run ended, so each
		// object gets a new one.
		printer, err := f.toPrinter()
		if err != nil {
			return nil, err
		}
		// The template printers write what they were given, secrets included,
		// to their output and into their error where a template fails.
		var out bytes.Buffer
		if err := printer.PrintObj(obj, &out); err != nil {
			message, _, _ := strings.Cut(err.Error(), ". Printing more information")
			for _, secret := range secrets {
				if secret != "" { // which would be found between any two characters
					message = strings.ReplaceAll(message, secret.Reveal(), secret.String())
				}
			}
			return nil, errors.New(message)
		}
		return out.Bytes(), nil
	}, nil
}

func (f *outputFlags) toPrinter() (printers.ResourcePrinter, error) {
	format := f.format
	if format == "" {
		format = "go-template" // --template alone
	}
	structured := genericclioptions.JSONYamlPrintFlags{ShowManagedFields: true}
	printer, err := structured.ToPrinter(format)
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		printer, err = f.template.ToPrinter(format)
	}
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		return nil, fmt.Errorf("unknown output format %q: use json, yaml, kyaml, %s, jsonpath=TEMPLATE or go-template=TEMPLATE", f.format, strings.Join(f.text, ", "))
	}
	return printer, err
}

// renderNames writes what -o name prints: names that kubectl and delete take.
func renderNames(obj secretNamer) []byte {
	var out bytes.Buffer
	for _, name := range obj.secretNames() {
		fmt.Fprintf(&out, "secret/%s\n", name)
	}
	return out.Bytes()
}
