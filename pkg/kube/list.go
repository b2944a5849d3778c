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
// opts.Limit bounds, as it arrives, without its managedFields. It returns what the list says of itself,
// such as how to get the next chunk. It stops at the first error of visit, and
// returns it. Where the answer breaks off, what was visited is a part of it.
func (r Resource[T, P]) List(ctx context.Context, opts metav1.ListOptions, visit func(P) error) (metav1.ListMeta, error) {
	body, err := r.path(r.client.RESTClient.Get()).VersionedParams(&opts, r.client.parameters).Stream(ctx)
	if err != nil {
		return metav1.ListMeta{}, err
	}
	defer body.Close()
	var failed error
	meta, err := readList(bufio.NewReaderSize(body, readSize), func(item P) error {
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

// readSize is how many bytes of a list are read at a time.
const readSize = 64 << 10

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
const wireType, varint, lengthDelimited = 7, 0, 2

var errMalformed = errors.New("the server's answer is not that of a Kubernetes API server: is there a proxy in between?")

// readList reads a list. Servers that do not know protobuf answer with JSON.
func readList[T any, P object[T]](in *bufio.Reader, visit func(P) error) (meta metav1.ListMeta, err error) {
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
		err := readItems(bufio.NewReaderSize(rest, readSize), &meta, visit)
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

func readItems[T any, P object[T]](in *bufio.Reader, meta *metav1.ListMeta, visit func(P) error) error {
	var message bytes.Buffer // used again and again: objects copy what they keep
	return eachField(in, func(number, length int64) error {
		message.Reset()
		// It grows with what arrives, not with what is announced.
		if _, err := io.CopyN(&message, in, length); err != nil {
			return unexpected(err)
		}
		switch number {
		case listMetadata:
			return meta.Unmarshal(message.Bytes())
		case listItem:
			item := P(new(T))
			if err := item.Unmarshal(withoutManagedFields(message.Bytes())); err != nil {
				return err
			}
			return visit(item)
		}
		return nil
	})
}

// withoutManagedFields returns an object's message without managedFields, which
// nobody here reads, and which are a third of the work of decoding. They are the
// last field of the metadata, which are the first of the object
// (k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto); where they are not, it
// returns the message as it is. It writes into the message.
func withoutManagedFields(message []byte) []byte {
	const metadata, managedFields = 1<<3 | lengthDelimited, 17<<3 | lengthDelimited
	tag, start, end := field(message)
	if tag != metadata {
		return message
	}
	for at := start; at < end; {
		tag, _, size := field(message[at:end])
		if size == 0 {
			return message
		}
		if tag != managedFields {
			at += size
			continue
		}
		// What comes before them moves to their end.
		kept := message[start:at]
		head := binary.AppendUvarint([]byte{metadata}, uint64(len(kept)))
		begin := end - len(kept)
		copy(message[begin:], kept)
		begin -= len(head)
		copy(message[begin:], head)
		return message[begin:]
	}
	return message
}

// field returns the tag of the field that a message begins with, and where its
// content starts and ends; an end of 0 where there is none that metadata have.
func field(message []byte) (tag uint64, start, end int) {
	tag, n := binary.Uvarint(message)
	if n <= 0 {
		return 0, 0, 0
	}
	length, m := binary.Uvarint(message[n:])
	if m <= 0 {
		return 0, 0, 0
	}
	start = n + m
	switch tag & wireType {
	case varint: // such as the generation: what was read is the content
		return tag, n, start
	case lengthDelimited:
		if length <= math.MaxInt32 && int(length) <= len(message)-start {
			return tag, start, start + int(length)
		}
	}
	return 0, 0, 0
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
