// Command gendocs writes the pages of docs/commands and docs/man from the
// command line itself: `make update`. The pages hold nothing of the machine that
// they are written on.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

const generated = "<!-- Written by hack/update-docs.sh. Do not edit. -->\n\n"

// What is said of flags in general.
const (
	flagsBehind  = "Flags come after the verb: kubectl takes none before the name of a plugin."
	optionsOfAll = "They do what they do in kubectl. Where a command has a flag of the same name, the command's own wins, and its page says so."
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// write makes the folders commands and man in that one.
func write(dir string) error {
	root := cmd.NewCommand(&cmd.Env{IOStreams: genericiooptions.NewTestIOStreamsDiscard()})
	for folder, pages := range map[string]map[string]string{"commands": markdownPages(root), "man": manPages(root)} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			return err
		}
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(dir, folder, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// markdownPages are a page for each command, one for the global flags, and an
// index, by file name.
func markdownPages(root *cobra.Command) map[string]string {
	pages := map[string]string{
		"README.md":  generated + index(root),
		"options.md": generated + options(root),
	}
	for _, verb := range verbs(root) {
		pages[verb.Name()+".md"] = generated + page(verb)
	}
	return pages
}

// verbs are the commands that a user runs, by name.
func verbs(root *cobra.Command) []*cobra.Command {
	var verbs []*cobra.Command
	for _, command := range root.Commands() {
		if command.IsAvailableCommand() && command.Name() != "options" {
			verbs = append(verbs, command)
		}
	}
	return verbs
}

func index(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Commands\n\n%s\n\n", markdown(root.Long))
	fmt.Fprintf(&b, "%s The flags that every command has are on a page of their own, [options](options.md).\n\n", flagsBehind)
	fmt.Fprintf(&b, "| Command | What it does |\n|---|---|\n")
	for _, verb := range verbs(root) {
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", verb.Name(), verb.Name(), cell(verb.Short))
	}
	fmt.Fprintf(&b, "| [options](options.md) | %s |\n", cell("The flags that every command has"))
	return b.String()
}

func options(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Options of every command\n\n")
	fmt.Fprintf(&b, "%s\n\n", optionsOfAll)
	table(&b, root.PersistentFlags())
	return b.String()
}

func page(verb *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", verb.CommandPath(), markdown(verb.Short))
	fmt.Fprintf(&b, "```\n%s [flags]\n```\n\n", verb.UseLine())
	if long := markdown(verb.Long); long != "" {
		fmt.Fprintf(&b, "%s\n\n", long)
	}
	if len(verb.Aliases) > 0 {
		fmt.Fprintf(&b, "Other names: `%s`.\n\n", strings.Join(verb.Aliases, "`, `"))
	}
	if verb.Example != "" {
		fmt.Fprintf(&b, "## Examples\n\n```sh\n%s\n```\n\n", outdent(verb.Example))
	}
	if verb.HasAvailableLocalFlags() {
		fmt.Fprintf(&b, "## Flags\n\n")
		table(&b, verb.LocalNonPersistentFlags())
		fmt.Fprintf(&b, "\n")
	}
	fmt.Fprintf(&b, "[Options of every command](options.md) · [All commands](README.md)\n")
	return b.String()
}

// table writes what there is to know of each flag, by name.
func table(w io.Writer, flags *pflag.FlagSet) {
	fmt.Fprintf(w, "| Flag | Default | Meaning |\n|---|---|---|\n")
	visit(flags, func(flag *pflag.Flag, name, value, meaning string) {
		if value != "" && !strings.HasPrefix(value, "[") {
			value = " " + value
		}
		text := defaultText(flag)
		if text != "" {
			text = "`" + text + "`"
		}
		fmt.Fprintf(w, "| `%s%s` | %s | %s |\n", name, value, text, cell(meaning))
	})
}

// visit calls a function for each flag that help shows, by name: with what it is
// called, what stands behind it, which is in brackets where it may be left out,
// and what it means.
func visit(flags *pflag.FlagSet, each func(flag *pflag.Flag, name, value, meaning string)) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Deprecated != "" || flag.Name == "help" {
			return
		}
		name := "--" + flag.Name
		if flag.Shorthand != "" && flag.ShorthandDeprecated == "" {
			name = "-" + flag.Shorthand + ", " + name
		}
		value, meaning := pflag.UnquoteUsage(flag)
		if flag.NoOptDefVal != "" && flag.Value.Type() != "bool" {
			value = "[=" + flag.NoOptDefVal + "]"
		}
		each(flag, name, value, meaning)
	})
}

// defaultText is a flag's default; empty for an empty one.
func defaultText(flag *pflag.Flag) string {
	if flag.Value.Type() == "stringSlice" || flag.Value.Type() == "stringArray" {
		return strings.Trim(flag.DefValue, "[]")
	}
	return flag.DefValue
}

// markdown takes a help text as prose: each paragraph on one line.
func markdown(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.NewReplacer("<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`).Replace(strings.TrimSpace(strings.Join(lines, "\n")))
}

// cell takes a help text as a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(markdown(text))
}

// outdent takes away the two spaces that help texts begin examples with.
func outdent(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		lines = append(lines, strings.TrimRight(strings.TrimPrefix(line, "  "), " "))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
