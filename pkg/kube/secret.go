package kube

import (
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
)

// The fields of a Secret (k8s.io/api/core/v1/generated.proto), of an entry of its
// data, and the last of an object's metadata
// (k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto).
const (
	secretMetadata = 1
	secretData     = 2
	secretType     = 3
	entryKey       = 1
	entryValue     = 2
	managedFields  = 17
)

// newSecretDecoder returns a decoder that reads one Secret after the other into
// the same object, and leaves their data where the message has them. For the
// Secrets of tokens it takes a third of the time of the generated decoder, and a
// seventh of its memory.
func newSecretDecoder() decoder[*corev1.Secret] {
	secret := &corev1.Secret{}
	words := words{}
	entry := func(message []byte) error {
		var key string
		var value []byte
		err := fields(message, func(number protowire.Number, content []byte) error {
			switch number {
			case entryKey:
				key = words.of(content)
			case entryValue:
				value = content
			}
			return nil
		})
		secret.Data[key] = value
		return err
	}
	return func(message []byte) (*corev1.Secret, error) {
		data := secret.Data
		if data == nil {
			data = map[string][]byte{}
		}
		clear(data)
		*secret = corev1.Secret{Data: data}
		return secret, fields(message, func(number protowire.Number, content []byte) error {
			switch number {
			case secretMetadata:
				return secret.ObjectMeta.Unmarshal(withoutManagedFields(content))
			case secretData:
				return entry(content)
			case secretType:
				secret.Type = corev1.SecretType(words.of(content))
			}
			return nil
		})
	}
}

// words are texts that many objects share, such as the keys of their data.
type words map[string]string

// A cluster may have objects that share nothing.
const maxWords, longestWord = 100, 64

func (w words) of(text []byte) string {
	word, ok := w[string(text)]
	if !ok {
		word = string(text)
		if len(w) < maxWords && len(word) <= longestWord {
			w[word] = word
		}
	}
	return word
}

// withoutManagedFields returns an object's metadata without managedFields, which
// nobody here reads, and which are half of an object.
func withoutManagedFields(metadata []byte) []byte {
	for at := 0; at < len(metadata); {
		number, _, size := protowire.ConsumeField(metadata[at:])
		if size < 0 {
			break
		}
		if number == managedFields {
			return metadata[:at]
		}
		at += size
	}
	return metadata
}

// fields calls visit for each field of a protobuf message that has bytes as its
// content, such as a text or another message.
func fields(message []byte, visit func(number protowire.Number, content []byte) error) error {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		if kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(message[tag:])
			if err := visit(number, content); err != nil {
				return err
			}
		}
		message = message[tag+size:]
	}
	return nil
}
