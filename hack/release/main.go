// Command release writes what a release needs besides what goreleaser builds;
// docs/releasing.md tells when.
//
//	go run ./hack/release krew DIST     the krew manifest of the archives in DIST
//	go run ./hack/release notes TAG     what CHANGELOG.md says of the version
package main

import (
	"errors"
	"fmt"
	"os"
)

// repository is where a release is downloaded and its files are read.
const repository = "https://github.com/k3s-token/kubectl-k3s-token"

func main() {
	result, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
	fmt.Print(result)
}

func run(args []string) (string, error) {
	if len(args) == 2 {
		switch args[0] {
		case "krew":
			return krewManifest("plugins/krew.yaml", args[1])
		case "notes":
			return releaseNotes("CHANGELOG.md", args[1])
		}
	}
	return "", errors.New("usage, in the top folder: go run ./hack/release krew DIST | notes TAG")
}
