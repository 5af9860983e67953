package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Limits of a secret, in bytes. With up to 64 bytes, a block of SHA-256, proofs take the same time
// for all secrets.
const (
	SecretBytesMin = 16
	SecretBytesMax = 64
)

// SecretLegal says in words which secrets ParseSecret accepts. They can be typed, fit on one line,
// and need no quotes.
const SecretLegal = "16 to 64 printable ASCII characters without spaces"

// SecretShown is printed in place of a secret.
const SecretShown = "***"

// ErrSecret says that a text can't be a secret. It doesn't show the text.
var ErrSecret = errors.New("secret is not legal: want " + SecretLegal)

// Secret is known only to an agency and the server. The zero value means that there is no secret.
//
// It is never sent, and never printed: fmt with any verb, zap and JSON show [SecretShown], or
// nothing for the zero value.
type Secret struct {
	// fmt can't call methods on a Secret in an unexported field, so it prints the fields by
	// reflection. It doesn't follow pointers there, so it prints an address and not the text.
	text *string
}

// ParseSecret makes a secret of b, which it copies. The error is ErrSecret.
func ParseSecret(b []byte) (Secret, error) {
	illegal := func(c rune) bool { return c <= ' ' || c > '~' }
	if len(b) < SecretBytesMin || len(b) > SecretBytesMax || bytes.ContainsFunc(b, illegal) {
		return Secret{}, ErrSecret
	}
	text := string(b)
	return Secret{text: &text}, nil
}

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.text != nil }

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns SecretShown, or "" if there is no secret.
func (s Secret) String() string {
	if s.IsSet() {
		return SecretShown
	}
	return ""
}

// Format writes String, for every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.String()) // fmt has no use for an error
}

// MarshalText returns String, for encoders. UnmarshalText can't read it back.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s by ParseSecret, for packages that read configuration.
func (s *Secret) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSecret(text)
	return err
}
