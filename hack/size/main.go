// Command size keeps the plugin small: it builds the binary for linux/amd64 as
// a release does, and compares its size with the one that docs/size.md has, or
// writes that page's table anew.
//
//	go run ./hack/size          fails where the binary has grown, or is too large
//	go run ./hack/size -update  writes docs/size.md
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	page = "docs/size.md"
	tags = "kustomize_disable_go_plugin_support" // as in the Makefile

	limit  = 26_000_000 // bytes, that the binary must never have
	growth = 5          // percent, since the page was written

	// What stands between these is written by this program.
	begin, end = "<!-- size: begin -->\n", "<!-- size: end -->\n"
)

func main() {
	update := flag.Bool("update", false, "write the page")
	flag.Parse()
	if err := run(*update); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(update bool) error {
	dir, err := os.MkdirTemp("", "size")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is temporary
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	size, err := build(filepath.Join(dir, "stripped"), "-s -w")
	if err != nil {
		return err
	}
	if size > limit {
		return fmt.Errorf("the binary has %d bytes, and may have %d: %s says what it is made of", size, limit, page)
	}
	if update {
		symbols := filepath.Join(dir, "symbols")
		if _, err := build(symbols, ""); err != nil {
			return err
		}
		return write(string(content), size, symbols)
	}
	recorded, err := recordedSize(string(content))
	if err != nil {
		return err
	}
	if size > recorded+recorded*growth/100 {
		return fmt.Errorf("the binary has grown from %d to %d bytes, more than %d %%: find out why, or run go run ./hack/size -update", recorded, size, growth)
	}
	return nil
}

// build builds the plugin and returns the size of the binary in bytes.
func build(file, ldflags string) (int64, error) {
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", ldflags, "-o", file, "./cmd/kubectl-k3stoken") //nolint:noctx // a build takes as long as it takes
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func recordedSize(content string) (int64, error) {
	match := regexp.MustCompile(`\*\*([\d,]+) bytes\*\*`).FindStringSubmatch(content)
	if match == nil {
		return 0, errors.New(page + " names no size: run go run ./hack/size -update")
	}
	return strconv.ParseInt(strings.ReplaceAll(match[1], ",", ""), 10, 64)
}

// write puts the size and the table into the page.
func write(content string, size int64, symbols string) error {
	before, rest, ok := strings.Cut(content, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(page + " lacks the marks between which the table goes")
	}
	code, err := codeSizes(symbols)
	if err != nil {
		return err
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "linux/amd64: **%s bytes**\n\n| Code of | kB |\n|---|---|\n", thousands(size))
	var others int64
	for _, module := range slices.SortedFunc(maps.Keys(code), func(a, b string) int { return cmp.Or(cmp.Compare(code[b], code[a]), cmp.Compare(a, b)) }) {
		if code[module] < 100_000 {
			others += code[module]
			continue
		}
		fmt.Fprintf(&table, "| %s | %d |\n", module, code[module]/1000)
	}
	fmt.Fprintf(&table, "| others | %d |\n", others/1000)
	return os.WriteFile(page, []byte(before+begin+table.String()+end+after), 0o644)
}

// codeSizes returns how many bytes of machine code each module has.
func codeSizes(symbols string) (map[string]int64, error) {
	out, err := exec.Command("go", "tool", "nm", "-size", symbols).Output() //nolint:noctx // it reads a file
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.EqualFold(fields[2], "t") {
			continue
		}
		size, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, err
		}
		sizes[module(fields[3])] += size
	}
	return sizes, nil
}

// module returns the module that a symbol comes from, and for those of
// Kubernetes the package.
func module(symbol string) string {
	elements := strings.Split(symbol, "/")
	if !strings.Contains(elements[0], ".") || len(elements) == 1 {
		return "Go's standard library and runtime"
	}
	// The last element is package.Function.
	last := len(elements) - 1
	elements[last], _, _ = strings.Cut(elements[last], ".")
	n := 3
	switch elements[0] {
	case "golang.org", "sigs.k8s.io":
		n = 2
	case "k8s.io":
		n = 4
	}
	return strings.Join(elements[:min(n, len(elements))], "/")
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
