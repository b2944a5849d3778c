// Command completion writes the completion shims that releases ship into a
// folder, as `kubectl k3s-token completion` prints them: `make update`.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: completion FOLDER")
		os.Exit(2)
	}
	for _, goos := range []string{"linux", "windows"} {
		name, program := cmd.CompletionShim(goos)
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(program), 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "completion:", err)
			os.Exit(1)
		}
	}
}
