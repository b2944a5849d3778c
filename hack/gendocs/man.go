package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

// manPages are the pages for man, by file name: one for the plugin, with the
// flags that every command has, and one for each command. They have no date,
// since nothing but the command line goes into them.
func manPages(root *cobra.Command) map[string]string {
	var list, see []string
	pages := map[string]string{}
	for _, verb := range verbs(root) {
		list = append(list, fmt.Sprintf(".TP\n%s\n%s. See %s.\n", bold(verb.Name()), roff(verb.Short), reference(manName(verb))))
		see = append(see, manName(verb))

		var b strings.Builder
		head(&b, verb)
		section(&b, "Description", paragraphs(verb.Long)+otherNames(verb))
		section(&b, "Options", manOptions(verb.LocalNonPersistentFlags())+
			".PP\nThe options of every command are in "+reference(cmd.BinaryName)+".\n")
		section(&b, "Examples", manExamples(verb))
		section(&b, "See also", references(cmd.BinaryName, "kubectl"))
		pages[manName(verb)+".1"] = b.String()
	}

	var b strings.Builder
	head(&b, root)
	section(&b, "Description", paragraphs(root.Long+"\n\n"+flagsBehind))
	section(&b, "Commands", strings.Join(list, ""))
	section(&b, "Options", paragraphs(optionsOfAll)+manOptions(root.PersistentFlags()))
	section(&b, "Examples", manExamples(root))
	section(&b, "See also", references(append(see, "kubectl")...))
	pages[cmd.BinaryName+".1"] = b.String()
	return pages
}

// manName is the name of a command's page.
func manName(command *cobra.Command) string {
	if !command.HasParent() {
		return cmd.BinaryName
	}
	return cmd.BinaryName + "-" + command.Name()
}

// head writes what every page begins with.
func head(b *strings.Builder, command *cobra.Command) {
	name, usage := manName(command), command.UseLine()
	if !command.HasParent() {
		usage = cmd.Name + " COMMAND"
	}
	fmt.Fprintf(b, ".\\\" Written by hack/update-docs.sh. Do not edit.\n")
	fmt.Fprintf(b, ".TH %s 1 \"\" \"%s\" \"User Commands\"\n", roff(strings.ToUpper(name)), roff(cmd.Name))
	// Names and flags are not hyphenated, lines not filled up with spaces.
	fmt.Fprintf(b, ".nh\n.ad l\n")
	section(b, "Name", fmt.Sprintf("%s \\- %s\n", roff(name), roff(command.Short)))
	called := command.CommandPath()
	section(b, "Synopsis", fmt.Sprintf("%s%s\n", bold(called), roff(strings.TrimPrefix(usage, called)+" [flags]")))
}

func section(b *strings.Builder, title, text string) {
	fmt.Fprintf(b, ".SH %s\n%s", strings.ToUpper(title), strings.TrimPrefix(text, ".PP\n"))
}

// paragraphs takes a help text as prose.
func paragraphs(text string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(strings.Join(strings.Fields(paragraph), " ")))
	}
	return b.String()
}

func otherNames(verb *cobra.Command) string {
	if len(verb.Aliases) == 0 {
		return ""
	}
	return fmt.Sprintf(".PP\nOther names: %s.\n", roff(strings.Join(verb.Aliases, ", ")))
}

// manOptions are a command's own flags, by name.
func manOptions(flags *pflag.FlagSet) string {
	var b strings.Builder
	visit(flags, func(flag *pflag.Flag, name, value, meaning string) {
		fmt.Fprintf(&b, ".TP\n%s", strings.ReplaceAll(bold(name), ", ", `\fR, \fB`))
		switch {
		case strings.HasPrefix(value, "["):
			b.WriteString(roff(value))
		case value != "":
			fmt.Fprintf(&b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(&b, "\n%s\n", roff(meaning))
		if text := defaultText(flag); text != "" && text != "false" {
			fmt.Fprintf(&b, "Default: %s.\n", roff(text))
		}
	})
	return b.String()
}

// manExamples are a command's examples, line by line as they are typed.
func manExamples(command *cobra.Command) string {
	var b strings.Builder
	for example := range strings.SplitSeq(outdent(command.Example), "\n\n") {
		comment, commands, _ := strings.Cut(example, "\n")
		fmt.Fprintf(&b, ".PP\n%s:\n.PP\n.RS 4\n.EX\n", roff(strings.TrimPrefix(comment, "# ")))
		for line := range strings.SplitSeq(commands, "\n") {
			fmt.Fprintf(&b, "%s\n", roff(line))
		}
		b.WriteString(".EE\n.RE\n")
	}
	return b.String()
}

func bold(text string) string { return `\fB` + roff(text) + `\fR` }

// reference is another page, in running text.
func reference(page string) string { return bold(page) + "(1)" }

func references(pages ...string) string {
	var all []string
	for _, page := range pages {
		all = append(all, reference(page))
	}
	return strings.Join(all, ",\n") + "\n"
}

// roff writes a text so that it comes out as it is: a reader copies commands
// from the page, in which a quote or a dash of typography is another character.
func roff(text string) string {
	text = strings.NewReplacer(
		`\`, `\(rs`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`,
	).Replace(text)
	var b strings.Builder
	if strings.HasPrefix(text, ".") {
		b.WriteString(`\&`) // else it is a request
	}
	for _, r := range text {
		if r > unicode.MaxASCII {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
