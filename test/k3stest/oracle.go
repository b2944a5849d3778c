package k3stest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Oracle answers questions about tokens with K3s's own code. It runs in a process
// of its own, so that the tests do not depend on K3s. It is safe for concurrent use.
type Oracle struct {
	mu      sync.Mutex
	ask     *json.Encoder
	answers *json.Decoder
}

// Answer is what K3s says. Of a token it is either ID and Secret, or Username and
// Password; of a CA bundle it is the Hash. Error is K3s's message against either.
type Answer struct {
	Username, Password, ID, Secret, Hash, Error string
}

// StartOracle starts the process, which only the K3s of hack/k3s has. It ends with this
// process.
func StartOracle() (*Oracle, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	command := exec.Command(filepath.Join(root, "hack", "k3s", "bin", "k3s"), "oracle") //nolint:noctx // its input ends
	command.Stderr = os.Stderr
	in, inErr := command.StdinPipe()
	out, outErr := command.StdoutPipe()
	if err := errors.Join(inErr, outErr, command.Start()); err != nil {
		return nil, fmt.Errorf("start the oracle, which `make k3s` builds: %w", err)
	}
	return &Oracle{ask: json.NewEncoder(in), answers: json.NewDecoder(out)}, nil
}

// Hash asks for the CA hash that K3s computes for a CA bundle.
func (o *Oracle) Hash(pem []byte) (Answer, error) {
	return o.answer(map[string]any{"op": "hash", "pem": pem})
}

// Parse asks how K3s reads a token.
func (o *Oracle) Parse(token string) (Answer, error) {
	return o.answer(map[string]any{"op": "parse", "token": token})
}

// Validate checks a token as an agent does before it joins the server. It fetches
// the CA, compares its hash with the token's, and verifies the server with it. Then
// it sends the credentials.
func (o *Oracle) Validate(server *Server, token string) (Answer, error) {
	return o.answer(map[string]any{
		"op": "validate", "server": server.SupervisorURL, "token": token, "get": server.ReadyPath(), "user": "node",
	})
}

func (o *Oracle) answer(question map[string]any) (Answer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var answer Answer
	if err := errors.Join(o.ask.Encode(question), o.answers.Decode(&answer)); err != nil {
		return Answer{}, fmt.Errorf("ask the oracle: %w", err)
	}
	return answer, nil
}
