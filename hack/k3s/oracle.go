package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/k3s-io/k3s/pkg/clientaccess"
	"github.com/sirupsen/logrus"
)

// question is one line that the oracle reads.
type question struct {
	// Op is "hash", "parse" or "validate".
	Op string `json:"op"`
	// PEM is the CA bundle to hash (base64 in JSON).
	PEM []byte `json:"pem,omitempty"`
	// Token is what a node would be given as its token.
	Token string `json:"token,omitempty"`
	// Server is the https:// URL that the node would join.
	Server string `json:"server,omitempty"`
	// Get is a path to fetch with the token's credentials once the server is
	// trusted, such as /v1-k3s/readyz; without it no credentials are sent.
	Get string `json:"get,omitempty"`
	// User, if set, replaces the token's user: agents always say "node".
	User string `json:"user,omitempty"`
}

// answer is the line that the oracle writes for a question. Error is K3s's own
// words; the other fields are set as far as the question asks for them.
type answer struct {
	Hash     string `json:"hash,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	ID       string `json:"id,omitempty"`
	Secret   string `json:"secret,omitempty"`
	Error    string `json:"error,omitempty"`
}

// oracle answers each line of in with a line on out until in ends.
func oracle(in io.Reader, out io.Writer) error {
	// K3s warns through its log about tokens without a hash, line after line.
	logrus.SetOutput(io.Discard)
	lines := bufio.NewReader(in)
	answers := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var q question
		if err := json.Unmarshal(line, &q); err != nil {
			return fmt.Errorf("question is not JSON: %w", err)
		}
		if err := answers.Encode(reply(q)); err != nil {
			return err
		}
	}
}

func reply(q question) answer {
	switch q.Op {
	case "hash":
		return hash(q.PEM)
	case "parse":
		return parse(q.Token)
	case "validate":
		return validate(q)
	default:
		return answer{Error: fmt.Sprintf("unknown op %q", q.Op)}
	}
}

// hash gives the CA hash that K3s puts into its tokens for this bundle.
func hash(pem []byte) answer {
	// Any credentials do: FormatTokenBytes is the exported way to the hash.
	token, err := clientaccess.FormatTokenBytes("user:password", pem)
	if err != nil {
		return answer{Error: err.Error()}
	}
	digest, _, _ := strings.Cut(strings.TrimPrefix(token, "K10"), "::")
	return answer{Hash: digest}
}

// parse tells how K3s reads a token, whether or not a server would take it.
func parse(token string) answer {
	// Parsing is only exported together with a connection. The option is called
	// between the two, and a server that is no https:// URL is never dialled.
	var read *clientaccess.Info
	_, err := clientaccess.ParseAndValidateToken("", token, func(info *clientaccess.Info) { read = info })
	if read == nil {
		return answer{Error: err.Error()}
	}
	if read.BootstrapTokenString != nil {
		return answer{ID: read.ID, Secret: read.Secret}
	}
	return answer{Username: read.Username, Password: read.Password}
}

// validate does what a node does before it joins, and with q.Get its first
// request with credentials too.
func validate(q question) answer {
	var options []clientaccess.ValidationOption
	if q.User != "" {
		options = append(options, clientaccess.WithUser(q.User))
	}
	info, err := clientaccess.ParseAndValidateToken(q.Server, q.Token, options...)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if q.Get != "" {
		if _, err := info.Get(q.Get); err != nil {
			return answer{Error: err.Error()}
		}
	}
	return answer{}
}
