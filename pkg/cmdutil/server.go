package cmdutil

import (
	"fmt"
	"os"
	"slices"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// GivenURLs returns the servers that a flag names, each once. Without a value it returns
// the one of K3S_URL.
func GivenURLs(flag string, values []string) (urls []supervisor.URL, err error) {
	if env := os.Getenv("K3S_URL"); len(values) == 0 && env != "" {
		flag, values = "K3S_URL", []string{env}
	}
	for _, value := range values {
		url, err := supervisor.ParseURL(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, nil
}
