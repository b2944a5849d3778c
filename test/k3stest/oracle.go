package k3stest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Oracle answers questions about tokens with K3s's own code, in a process of
// its own, so that none of K3s becomes a dependency of the plugin. It is safe
// for concurrent use.
type Oracle struct {
	process *process

	mu      sync.Mutex
	in      io.WriteCloser
	answers *bufio.Reader
}

// Parsed is how K3s reads a token: either ID and Secret, or Username and
// Password.
type Parsed struct {
	Username string `json:"username"`
	Password string `json:"password"`
	ID       string `json:"id"`
	Secret   string `json:"secret"`
}

// OracleError is what K3s said against a token or a CA bundle, in its words.
type OracleError string

// Error is K3s's message.
func (e OracleError) Error() string { return string(e) }

// StartOracle starts the process; the caller has to call [Oracle.Close].
func StartOracle() (*Oracle, error) {
	binary, err := Binary("k3s")
	if err != nil {
		return nil, err
	}
	command := exec.Command(binary, "oracle") //nolint:noctx // ended by Close
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the oracle: %w", err)
	}
	// A pipe of our own: the command's would be closed under the last answer
	// when the process ends.
	out, outWriter, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the oracle: %w", err)
	}
	command.Stdout = outWriter
	p, err := startProcess(command)
	_ = outWriter.Close()
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start the oracle: %w", err)
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
	var answer struct {
		Hash string `json:"hash"`
	}
	err := o.ask(map[string]any{"op": "hash", "pem": pem}, &answer)
	return answer.Hash, err
}

// Parse is how K3s reads a token.
func (o *Oracle) Parse(token string) (Parsed, error) {
	var answer Parsed
	err := o.ask(map[string]any{"op": "parse", "token": token}, &answer)
	return answer, err
}

// Validate does what an agent does with a token before it joins the server:
// fetch the CA, compare its hash with the token's, verify the server with it.
// With a path, such as [Server.ReadyPath], the agent's credentials are then
// sent there.
func (o *Oracle) Validate(server, token, path string) error {
	question := map[string]any{"op": "validate", "server": server, "token": token, "get": path, "user": "node"}
	return o.ask(question, &struct{}{})
}

// ask sends one question and decodes the answer to it.
func (o *Oracle) ask(question map[string]any, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("ask the oracle: %w", err)
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
	var refusal struct {
		Error string `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(reply, &refusal), json.Unmarshal(reply, answer)); err != nil {
		return fmt.Errorf("read the oracle's answer: %w", err)
	}
	if refusal.Error != "" {
		return OracleError(refusal.Error)
	}
	return nil
}
