package main

import (
	"fmt"
	"go/ast"
	godoc "go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

const aboutKinds = "# Output\n\n" +
	"What `-o json` and its like print: kinds of the API group k3s-token.io/v1alpha1, each with `apiVersion` and `kind`. " +
	"No API server serves them. A kind of which there can be several has a list, such as BootstrapTokenList, " +
	"with `items` of that kind. A field with a question mark is absent if it is empty.\n"

// describeKinds returns a page on the kinds and their fields, from the comments
// in the folder with their source.
func describeKinds(source string) (string, error) {
	files, syntax := token.NewFileSet(), []*ast.File{}
	names, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		file, err := parser.ParseFile(files, name, nil, parser.ParseComments)
		if err != nil {
			return "", err
		}
		syntax = append(syntax, file)
	}
	pkg, err := godoc.NewFromFiles(files, syntax, "v1alpha1")
	if err != nil {
		return "", err
	}
	page := new(strings.Builder)
	page.WriteString(aboutKinds)
	for _, t := range pkg.Types {
		if structure, ok := t.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); ok && !strings.HasSuffix(t.Name, "List") {
			about, _, _ := strings.Cut(t.Doc, "\n+k8s:")
			fmt.Fprintf(page, "\n## %s\n\n%s\n\n| Field | Type | Meaning |\n|---|---|---|\n", t.Name, cell(t.Name, about))
			for _, field := range structure.Fields.List {
				describeField(page, field)
			}
		}
	}
	return page.String(), nil
}

func describeField(page *strings.Builder, field *ast.Field) {
	name, option, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
	if option == "omitempty" {
		name += "?"
	}
	goName := ""
	if len(field.Names) > 0 { // it is not embedded
		goName = field.Names[0].Name
	}
	if name != "" { // as it is for apiVersion and kind
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", name, typeName(field.Type), cell(goName, field.Doc.Text()))
	}
}

// typeName says what a Go type is in JSON. Types of the package are links.
func typeName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return typeName(expr.X)
	case *ast.ArrayType:
		return "list of " + typeName(expr.Elt)
	case *ast.SelectorExpr: // of metav1: ObjectMeta, Time
		return expr.Sel.Name
	case *ast.Ident:
		if ast.IsExported(expr.Name) {
			return fmt.Sprintf("[%s](#%s)", expr.Name, strings.ToLower(expr.Name))
		}
		return expr.Name
	}
	return fmt.Sprint(expr)
}

// cell turns a Go comment, which starts with a name, into a cell of a table.
func cell(name, comment string) string {
	text := strings.TrimPrefix(strings.TrimSpace(comment), name+" ")
	for _, verb := range []string{"is ", "are ", "tells ", "says "} {
		text = strings.TrimPrefix(text, verb)
	}
	if text != "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;").Replace(text)
}
