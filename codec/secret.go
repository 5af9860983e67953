package codec

import (
	"errors"
	"fmt"
	"io"
)

// Limits of a secret, in bytes. It can be typed, stands on one line, and needs
// no quotes. Up to a block of SHA-256 (64 bytes) proofs of all secrets take the same time.
const (
	SecretBytesMin = 16
	SecretBytesMax = 64
)

// SecretLegal says in words what ParseSecret takes.
const SecretLegal = "16 to 64 printable ASCII characters without spaces"

// SecretShown is what a secret prints as.
const SecretShown = "***"

// ErrSecret says that something can't be a secret. It doesn't say what it was.
var ErrSecret = errors.New("secret is not legal: want " + SecretLegal)

// Secret is what only an agency and the server know. The zero value is none.
//
// It is never sent, and never printed: fmt with any verb, zap and JSON show
// [SecretShown], and nothing if there is none.
type Secret struct {
	// A pointer, because fmt follows no pointer in a field that it can't ask how
	// it wants to be printed, such as an unexported one.
	text *string
}

// ParseSecret makes a secret of b, which is copied. The error is ErrSecret.
func ParseSecret(b []byte) (Secret, error) {
	if len(b) < SecretBytesMin || len(b) > SecretBytesMax {
		return Secret{}, ErrSecret
	}
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return Secret{}, ErrSecret
		}
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

// String is SecretShown, or nothing if there is no secret.
func (s Secret) String() string {
	if s.IsSet() {
		return SecretShown
	}
	return ""
}

// Format writes String, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.String()) // fmt has no use for an error
}

// MarshalText is String, for encoders. It can't be read back.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSecret, for what reads configuration.
func (s *Secret) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSecret(text)
	return err
}
