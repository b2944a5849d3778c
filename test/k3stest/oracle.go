package k3stest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Oracle answers questions about tokens with K3s's own code. It runs in a process
// of its own, so that the tests do not depend on K3s. It is safe for concurrent use.
type Oracle struct {
	process *process

	mu      sync.Mutex
	in      io.WriteCloser
	answers *bufio.Reader
}

// Parsed is how K3s reads a token: either ID and Secret, or Username and
// Password.
type Parsed struct {
	Username, Password, ID, Secret string
}

// OracleError is K3s's message against a token or a CA bundle.
type OracleError string

// Error is K3s's message.
func (e OracleError) Error() string { return string(e) }

// StartOracle starts the process, which only the K3s of hack/k3s has; the
// caller has to call [Oracle.Close].
func StartOracle() (*Oracle, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	command := exec.Command(filepath.Join(root, "hack", "k3s", "bin", "k3s"), "oracle") //nolint:noctx // ended by Close
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of our own: the command's would be closed under the last answer
	// when the process ends.
	out, outWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command.Stdout = outWriter
	p, err := startProcess(command)
	_ = outWriter.Close()
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start the oracle, which `make k3s` builds: %w", err)
	}
	return &Oracle{process: p, in: in, answers: bufio.NewReader(out)}, nil
}

// Close ends the process.
func (o *Oracle) Close() error {
	_ = o.in.Close()
	return o.process.stop(5 * time.Second)
}

// Hash is the CA hash that K3s computes for a CA bundle.
func (o *Oracle) Hash(pem []byte) (string, error) {
	var answer struct{ Hash string }
	err := o.ask(map[string]any{"op": "hash", "pem": pem}, &answer)
	return answer.Hash, err
}

// Parse is how K3s reads a token.
func (o *Oracle) Parse(token string) (Parsed, error) {
	var answer Parsed
	err := o.ask(map[string]any{"op": "parse", "token": token}, &answer)
	return answer, err
}

// Validate checks a token as an agent does before it joins the server. It fetches
// the CA, compares its hash with the token's, and verifies the server with it. Then
// it sends the credentials to path, such as [Server.ReadyPath].
func (o *Oracle) Validate(server, token, path string) error {
	question := map[string]any{"op": "validate", "server": server, "token": token, "get": path, "user": "node"}
	return o.ask(question, &struct{}{})
}

// ask sends one question and decodes the answer to it.
func (o *Oracle) ask(question map[string]any, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := o.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask the oracle: %w", err)
	}
	reply, err := o.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the oracle's answer: %w", err)
	}
	var refusal struct{ Error string }
	if err := errors.Join(json.Unmarshal(reply, &refusal), json.Unmarshal(reply, answer)); err != nil {
		return fmt.Errorf("read the oracle's answer: %w", err)
	}
	if refusal.Error != "" {
		return OracleError(refusal.Error)
	}
	return nil
}
