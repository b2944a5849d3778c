// Package docs holds the documents to what they promise of the source.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// results names functions, calls and constants whose texts are no messages: they
// are the result of a command, a plan, a name, or go to no screen.
var results = []string{
	"aboutRotation", "shim", "windowsShim", "joinCommand", // for a ConfigMap, a file, and another machine
	"rotateOptions.describe", "rotateOptions.tellRotated", // the plan, and what to do next: docs/rotating.md
	"StepName", "SameAsCurrent", "CurrentIsBootstrap", // names
	"line", "describeToken", "kindOfToken", // of the results of inspect and verify
	"addFlags",          // help
	"closedIdle", "Cut", // what is looked for in others' texts
}

// TestErrorsPageIsComplete holds docs/errors.md to the source: each message that
// the plugin can print is on it, and it has no other.
//
// A message is any text in pkg and cmd of three words or more, however it comes
// to be printed, but for help texts and for what results names. What has fewer
// words only wraps other messages. In the page it stands as code, with "…" for
// what is different each time; parts that fill such a place may stand anywhere,
// whole messages stand in the first column of a table.
func TestErrorsPageIsComplete(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(content), `\|`, "|") // as a table has it
	source := messages(t)
	explained := map[string]bool{}
	for _, span := range codeSpan.FindAllStringSubmatch(page, -1) {
		explained[span[1]] = true
	}
	for _, m := range source {
		if m.words() >= 3 && !explained[m.text] {
			t.Errorf("%s:%d says `%s`: docs/errors.md does not explain it", m.at.Filename, m.at.Line, m.text)
		}
	}
	for i, line := range strings.Split(page, "\n") {
		column, _, row := strings.Cut(line, "` | ")
		if !row {
			continue
		}
		for _, span := range codeSpan.FindAllStringSubmatch(column+"`", -1) {
			if !slices.ContainsFunc(source, func(m message) bool { return m.text == span[1] }) {
				t.Errorf("docs/errors.md:%d: the plugin does not say `%s` any more", i+1, span[1])
			}
		}
	}
}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

// message is a line that the plugin can print, with "…" for what is different
// each time.
type message struct {
	text string
	at   token.Position
}

func (m message) words() int {
	words := 0
	for _, word := range strings.Fields(m.text) {
		if strings.ContainsFunc(word, unicode.IsLetter) {
			words++
		}
	}
	return words
}

// messages returns the messages in the source.
func messages(t *testing.T) []message {
	t.Helper()
	f := &finder{files: token.NewFileSet(), constants: map[string]string{}}
	var parsed []*ast.File
	for _, top := range []string{"pkg", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(f.files, path, nil, parser.SkipObjectResolution)
			parsed = append(parsed, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // a constant may be made of others
		for _, file := range parsed {
			f.readConstants(file)
		}
	}
	for _, file := range parsed {
		f.inPackage = file.Name.Name
		ast.Inspect(file, f.visit)
	}
	return f.found
}

type finder struct {
	files     *token.FileSet
	inPackage string
	constants map[string]string // of all packages, by package.name
	found     []message
}

func (f *finder) readConstants(file *ast.File) {
	f.inPackage = file.Name.Name
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant := spec.(*ast.ValueSpec)
			for i, value := range constant.Values {
				if text := f.text(value); text != "" {
					f.constants[f.inPackage+"."+constant.Names[i].Name] = text
				}
			}
		}
	}
}

// visit collects the texts below a node, where they are messages.
func (f *finder) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.ImportSpec, *ast.Field:
		return false
	case *ast.FuncDecl:
		return !slices.Contains(results, nameOf(n))
	case *ast.ValueSpec:
		return !slices.Contains(results, n.Names[0].Name)
	case *ast.KeyValueExpr: // the help of a command
		key, _ := n.Key.(*ast.Ident)
		return key == nil || !slices.Contains([]string{"Use", "Short", "Long", "Example", "Message"}, key.Name)
	case *ast.AssignStmt: // the help of a flag
		field, _ := n.Lhs[0].(*ast.SelectorExpr)
		return field == nil || field.Sel.Name != "Usage" && field.Sel.Name != "Description"
	case *ast.CallExpr:
		name := called(n)
		if strings.HasSuffix(name, "Var") || strings.HasSuffix(name, "VarP") || slices.Contains(results, name) {
			return false
		}
		// A format, and what goes into it.
		for i, argument := range n.Args {
			if format := f.text(argument); strings.Contains(format, "%") {
				f.add(f.fill(format, n.Args[i+1:]), argument)
				for _, argument := range n.Args[i+1:] {
					ast.Inspect(argument, f.visit)
				}
				return false
			}
		}
	case *ast.BinaryExpr, *ast.BasicLit:
		if text := f.text(n.(ast.Expr)); text != "" {
			f.add(text, n)
			return false
		}
	}
	return true
}

func (f *finder) add(text string, node ast.Node) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(dots.ReplaceAllString(line, "…")); line != "" {
			at := f.files.Position(node.Pos())
			at.Filename, _ = filepath.Rel(root, at.Filename)
			f.found = append(f.found, message{line, at})
		}
	}
}

// text returns the text that an expression is made of, with "…" for what is not
// constant, or nothing where none of it is.
func (f *finder) text(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.Ident:
		return f.constants[f.inPackage+"."+e.Name]
	case *ast.SelectorExpr:
		if other, ok := e.X.(*ast.Ident); ok {
			return f.constants[other.Name+"."+e.Sel.Name]
		}
	case *ast.BinaryExpr:
		left, right := f.text(e.X), f.text(e.Y)
		if e.Op == token.ADD && left+right != "" {
			return orDots(left) + orDots(right)
		}
	}
	return ""
}

var dots = regexp.MustCompile("…+")

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z%]`)

// fill puts the arguments into a format.
func (f *finder) fill(format string, arguments []ast.Expr) string {
	return verb.ReplaceAllStringFunc(format, func(verb string) string {
		if verb == "%%" {
			return "%"
		}
		text := "…"
		if len(arguments) > 0 {
			text = orDots(f.text(arguments[0]))
			arguments = arguments[1:]
		}
		if verb == "%q" {
			return `"` + text + `"`
		}
		return text
	})
}

func orDots(text string) string {
	if text == "" {
		return "…"
	}
	return text
}

// nameOf returns the name of a function, with its receiver's type in front.
func nameOf(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return function.Name.Name
	}
	receiver := function.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return name.Name + "." + function.Name.Name
	}
	return function.Name.Name
}

// called returns the name of the function or method that is called.
func called(call *ast.CallExpr) string {
	switch function := call.Fun.(type) {
	case *ast.Ident:
		return function.Name
	case *ast.SelectorExpr:
		return function.Sel.Name
	}
	return ""
}
