package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// outputFlags is -o and what goes with it.
type outputFlags struct {
	format           string
	text             []string // the formats that the command prints itself, by name
	template         string
	allowMissingKeys bool
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
	formats := slices.Concat([]string{"json", "yaml", "kyaml"}, f.text, []string{"jsonpath", "jsonpath-as-json", "jsonpath-file", "go-template", "go-template-file"})
	cmd.Flags().StringVar(&f.template, "template", "", "Template string or path to template file to use when -o=go-template, -o=go-template-file, -o=jsonpath or -o=jsonpath-file. Without -o it is a golang template [http://golang.org/pkg/text/template/#pkg-overview].")
	must(cmd.MarkFlagFilename("template"))
	cmd.Flags().BoolVar(&f.allowMissingKeys, "allow-missing-template-keys", true, "If true, ignore any errors in templates when a field or map key is missing in the template. Only applies to golang and jsonpath output formats.")
	cmd.Flags().StringVarP(&f.format, "output", "o", "", "Output format. One of: ("+strings.Join(formats, ", ")+").")
	completeValues(cmd, "output", formats...)
}

// A render writes an object in the format that the user asked for.
type render func(obj runtime.Object, secrets ...token.Secret) ([]byte, error)

// own returns the format, where the command prints it itself.
func (f *outputFlags) own() (string, bool) {
	format := strings.ToLower(f.format)
	if format == "" && f.template == "" {
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

// toPrinter returns kubectl's printer for the format.
func (f *outputFlags) toPrinter() (printers.ResourcePrinter, error) {
	switch strings.ToLower(f.format) {
	case "json":
		return &printers.JSONPrinter{}, nil
	case "yaml":
		return plainPrinter{&printers.YAMLPrinter{}}, nil
	case "kyaml":
		return plainPrinter{&printers.KYAMLPrinter{}}, nil
	}
	// The template stands behind the format or in a flag of its own, which by
	// itself is one for go-template.
	format, text, both := strings.Cut(f.format, "=")
	if f.template != "" {
		if both {
			return nil, errors.New("two templates given: write it behind -o or behind --template")
		}
		text = f.template
	}
	switch format {
	case "jsonpath", "jsonpath-as-json":
		return f.toJSONPathPrinter(text, format == "jsonpath-as-json")
	case "jsonpath-file":
		text, err := readTemplate(text)
		if err != nil {
			return nil, err
		}
		return f.toJSONPathPrinter(text, false)
	case "", "go-template", "template":
		return f.toGoTemplatePrinter(text)
	case "go-template-file", "templatefile":
		text, err := readTemplate(text)
		if err != nil {
			return nil, err
		}
		return f.toGoTemplatePrinter(text)
	}
	return nil, fmt.Errorf("unknown output format %q: use json, yaml, kyaml, %s, jsonpath=TEMPLATE or go-template=TEMPLATE", f.format, strings.Join(f.text, ", "))
}

var errNoTemplate = errors.New("no template given: write it behind the format, as in -o jsonpath='{.id}', or behind --template")

func readTemplate(name string) (string, error) {
	if name == "" {
		return "", errNoTemplate
	}
	content, err := os.ReadFile(name) //nolint:gosec // reading the file that the user names is the point
	if err != nil {
		return "", fmt.Errorf("read the template: %w", err)
	}
	return string(content), nil
}

func (f *outputFlags) toJSONPathPrinter(text string, asJSON bool) (printers.ResourcePrinter, error) {
	if text == "" {
		return nil, errNoTemplate
	}
	printer, err := printers.NewJSONPathPrinter(text)
	if err != nil {
		return nil, fmt.Errorf("error parsing jsonpath %s: %w", text, err)
	}
	printer.AllowMissingKeys(f.allowMissingKeys)
	printer.EnableJSONOutput(asJSON)
	return printer, nil
}

func (f *outputFlags) toGoTemplatePrinter(text string) (printers.ResourcePrinter, error) {
	if text == "" {
		return nil, errNoTemplate
	}
	printer, err := printers.NewGoTemplatePrinter([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("error parsing template %s: %w", text, err)
	}
	printer.AllowMissingKeys(f.allowMissingKeys)
	return printer, nil
}

// plainPrinter has another printer write YAML also where a text holds characters
// that YAML does not allow as they are: kubectl's printers fail there.
type plainPrinter struct{ printers.ResourcePrinter }

// PrintObj implements printers.ResourcePrinter.
func (p plainPrinter) PrintObj(obj runtime.Object, out io.Writer) error {
	asJSON, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	// JSON has them within strings only, where an escape says the same.
	var escaped bytes.Buffer
	for _, r := range string(asJSON) {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&escaped, `\u%04x`, r)
		} else {
			escaped.WriteRune(r)
		}
	}
	return p.ResourcePrinter.PrintObj(&runtime.Unknown{Raw: escaped.Bytes()}, out)
}

func secretNames(tokens []BootstrapToken) []string {
	names := make([]string, len(tokens))
	for i := range tokens {
		names[i] = tokens[i].Metadata.Name
	}
	return names
}

// renderNames writes what -o name prints: names that kubectl and delete take.
func renderNames(secrets ...string) []byte {
	var out bytes.Buffer
	for _, name := range secrets {
		out.WriteString("secret/" + name + "\n")
	}
	return out.Bytes()
}
