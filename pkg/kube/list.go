package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// List calls visit for each object of a list, or of the chunk of it that
// opts.Limit bounds, as it arrives. A Secret comes without its managedFields and
// is good until visit returns, as its data are. List returns what the list says
// of itself, such as how to get the next chunk. It stops at the first error of
// visit, and returns it. Where the answer breaks off, what was visited is a part
// of it.
func (r Resource[T, P]) List(ctx context.Context, opts metav1.ListOptions, visit func(P) error) (metav1.ListMeta, error) {
	body, err := r.path(r.client.RESTClient.Get()).VersionedParams(&opts, r.client.parameters).Stream(ctx)
	if err != nil {
		return metav1.ListMeta{}, err
	}
	defer body.Close()
	var failed error
	meta, err := readList(bufio.NewReaderSize(body, envelopeSize), r.decoder(), func(item P) error {
		failed = visit(item)
		return failed
	})
	switch {
	case failed != nil:
		return meta, failed
	case err != nil && ctx.Err() != nil:
		return meta, context.Cause(ctx)
	case err != nil && !errors.Is(err, errMalformed):
		return meta, fmt.Errorf("the server's answer broke off, try again: %w", err)
	}
	return meta, err
}

const (
	// readSize is how many bytes of a list are read at a time, and envelopeSize
	// of what comes before: so little that the list does not go through two
	// buffers.
	readSize     = 64 << 10
	envelopeSize = 64
)

// What protobuf begins with in Kubernetes, and the fields that are read of its
// envelope, runtime.Unknown, and of each type of list
// (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
const (
	protobufMagic = "k8s\x00"
	envelopeRaw   = 2
	listMetadata  = 1
	listItem      = 2
)

// How a field's tag tells what it holds.
const wireType, lengthDelimited = 7, 2

var errMalformed = errors.New("the server's answer is not that of a Kubernetes API server: is there a proxy in between?")

// A decoder reads an object from its protobuf message.
type decoder[P any] func(message []byte) (P, error)

// newDecoder returns the decoder that is generated for each type.
func newDecoder[T any, P object[T]]() decoder[P] {
	return func(message []byte) (P, error) {
		item := P(new(T))
		return item, item.Unmarshal(message)
	}
}

// readList reads a list. Servers that do not know protobuf answer with JSON.
func readList[T any, P object[T]](in *bufio.Reader, decode decoder[P], visit func(P) error) (meta metav1.ListMeta, err error) {
	if magic, err := in.Peek(len(protobufMagic)); err != nil || string(magic) != protobufMagic {
		return readJSON(in, visit)
	}
	if _, err := in.Discard(len(protobufMagic)); err != nil {
		return meta, err
	}
	found := false
	err = eachField(in, func(number, length int64) error {
		if number != envelopeRaw {
			return skip(in, length)
		}
		found = true
		rest := &io.LimitedReader{R: in, N: length}
		err := readItems(bufio.NewReaderSize(rest, readSize), &meta, decode, visit)
		if err == nil && rest.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err == nil && !found {
		err = io.ErrUnexpectedEOF
	}
	return meta, err
}

func readItems[P any](in *bufio.Reader, meta *metav1.ListMeta, decode decoder[P], visit func(P) error) error {
	return eachField(in, func(number, length int64) error {
		message, err := next(in, length)
		if err != nil {
			return unexpected(err)
		}
		switch number {
		case listMetadata:
			err = meta.Unmarshal(message)
		case listItem:
			var item P
			if item, err = decode(message); err == nil {
				err = visit(item)
			}
		}
		if err == nil && length <= readSize {
			_, err = in.Discard(int(length))
		}
		return err
	})
}

// next returns the next so many bytes. Where they are no more than readSize, they
// are still to be discarded, and good until then.
func next(in *bufio.Reader, length int64) ([]byte, error) {
	if length <= readSize {
		return in.Peek(int(length))
	}
	// It grows with what arrives, not with what is announced.
	var message bytes.Buffer
	_, err := io.CopyN(&message, in, length)
	return message.Bytes(), err
}

// eachField calls read for each field of a protobuf message, to its end. read
// takes the field's content, that many bytes, from in. All fields of the
// messages here are strings or messages themselves.
func eachField(in *bufio.Reader, read func(number, length int64) error) error {
	for {
		tag, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		length, err := binary.ReadUvarint(in)
		if err != nil {
			return unexpected(err)
		}
		if tag&wireType != lengthDelimited || tag > math.MaxInt64 || length > math.MaxInt64 {
			return errMalformed
		}
		if err := read(int64(tag>>3), int64(length)); err != nil {
			return err
		}
	}
}

func skip(in *bufio.Reader, length int64) error {
	_, err := io.CopyN(io.Discard, in, length)
	return unexpected(err)
}

// unexpected is for an end in the middle of something.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readJSON[T any, P object[T]](in io.Reader, visit func(P) error) (metav1.ListMeta, error) {
	var list struct {
		Kind     string          `json:"kind"`
		Metadata metav1.ListMeta `json:"metadata"`
		Items    []T             `json:"items"`
	}
	if err := json.NewDecoder(in).Decode(&list); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			err = errMalformed
		}
		return metav1.ListMeta{}, unexpected(err)
	}
	if !strings.HasSuffix(list.Kind, "List") {
		return metav1.ListMeta{}, errMalformed
	}
	for i := range list.Items {
		if err := visit(&list.Items[i]); err != nil {
			return metav1.ListMeta{}, err
		}
	}
	return list.Metadata, nil
}
