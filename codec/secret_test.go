package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestParseSecret(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("x", SecretBytesMin), strings.Repeat("~", SecretBytesMax), "!\"#$%&'()*+,-./0123456789:;<=>?@",
	} {
		if s, err := ParseSecret([]byte(text)); err != nil || !s.IsSet() || s.reveal() != text {
			t.Errorf("ParseSecret(%q): %v", text, err)
		}
	}
	for _, text := range []string{
		"", strings.Repeat("x", SecretBytesMin-1), strings.Repeat("x", SecretBytesMax+1),
		"sesame of agency one", "sesame-of-agency-1\n", "\tsesame-of-agency-1", "sesame-of-agency-1\x00", "sesame-of-agency-1\x7f", "sésamo-de-la-agencia-1",
	} {
		s, err := ParseSecret([]byte(text))
		if !errors.Is(err, ErrSecret) || s.IsSet() {
			t.Errorf("ParseSecret(%q): %v, want ErrSecret", text, err)
		}
		if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	if legal := fmt.Sprintf("%d to %d printable ASCII", SecretBytesMin, SecretBytesMax); !strings.HasPrefix(SecretLegal, legal) {
		t.Errorf("SecretLegal is %q, want it to begin with %q", SecretLegal, legal)
	}
}

// ParseSecret copies: the caller may clear its bytes.
func TestParseSecretCopies(t *testing.T) {
	b := []byte("sesame-of-agency-1")
	s := mustSecret(t, string(b))
	same, err := ParseSecret(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if same.Prove(Nonce{}, 1) != s.Prove(Nonce{}, 1) {
		t.Error("the secret has changed with the bytes that it was made of")
	}
}

// No way of printing shows a secret.
func TestSecretIsNeverPrinted(t *testing.T) {
	const text = "sesame-of-agency-1"
	secret := mustSecret(t, text)
	type exported struct{ Secret Secret }
	type unexported struct {
		secret Secret
		list   []Secret
		where  map[string]*Secret
	}
	hidden := unexported{secret, []Secret{secret}, map[string]*Secret{"a": &secret}}
	var said []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T", "%w", "%z", "%!"} {
		for _, value := range []any{secret, &secret, exported{secret}, &exported{secret}, hidden, &hidden, []Secret{secret}, map[string]Secret{"a": secret}, fmt.Errorf("with %v", secret)} {
			said = append(said, fmt.Sprintf(verb, value))
		}
	}
	said = append(said, fmt.Sprint(secret, &secret, exported{secret}, hidden))
	asJSON, err := json.Marshal([]any{secret, &secret, exported{secret}, hidden})
	if err != nil {
		t.Fatal(err)
	}
	said = append(said, string(asJSON))
	for _, encoder := range []zapcore.Encoder{zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())} {
		line, err := encoder.EncodeEntry(zapcore.Entry{}, []zap.Field{zap.Any("a", secret), zap.Reflect("b", exported{secret}), zap.Stringer("c", secret), zap.Any("d", []Secret{secret})})
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, line.String())
	}
	for _, s := range said {
		if strings.Contains(s, text) || strings.Contains(s, fmt.Sprintf("%x", text)) || strings.Contains(s, fmt.Sprint([]byte(text))) {
			t.Errorf("the secret is in %q", s)
		}
	}
	if secret.String() != SecretShown || fmt.Sprintf("%+v", exported{secret}) != "{Secret:"+SecretShown+"}" || string(asJSON[:10]) != `["***","**` {
		t.Errorf("a secret is shown as %v, %+v, %s", secret, exported{secret}, asJSON)
	}
	if s := fmt.Sprint(Secret{}); s != "" {
		t.Errorf("no secret is shown as %q", s)
	}
}
