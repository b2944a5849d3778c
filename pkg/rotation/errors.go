// Package rotation replaces the server token of a K3s cluster. Options.Preflight
// checks that the cluster is ready for it, Plan.Rotate tells one server, and
// Records keeps a record of the rotation in the cluster.
//
// All servers accept the old token until they are restarted with the new one,
// so no probe shows a rotation that is not finished. A second one, through
// another server, leaves that server with a third token on its disk. This is
// why one server is told, the others are asked first, and there is a record.
package rotation

import "errors"

// hintError is an error with advice for the user. It holds nothing of a token.
type hintError struct {
	error
	hint string
}

func newError(text, hint string) error { return &hintError{errors.New(text), hint} }

func (e *hintError) Hint() string  { return e.hint }
func (e *hintError) Unwrap() error { return e.error }
