package agency

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"loteria/codec"
)

const sesame = "sesame-of-agency-7"

func testSecret(t *testing.T, text string) codec.Secret {
	t.Helper()
	s, err := codec.ParseSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// authenticate is the server's side of the authentication. It ends the handler if the proof is
// wrong.
func (p *peer) authenticate(secret codec.Secret, nonce codec.Nonce) {
	p.t.Helper()
	p.expect("AUTH|7")
	_, challenge, _ := strings.Cut(string(codec.AppendChallenge(nil, nonce)), "\n")
	p.say(challenge)
	payload, err := p.frame()
	if err != nil {
		p.t.Error(err)
		p.leave()
	}
	if proof, ok := codec.ParseProof([]byte(payload)); !ok || !secret.Verify(nonce, 7, proof) {
		p.say(codec.CodeAuthenticationFailed.String())
		p.expectClosed()
		p.leave()
	}
	p.say("AUTHENTICATED")
}

// After a connection has broken, the next one authenticates anew, and nothing is stored twice.
func TestSecretOnEveryConnection(t *testing.T) {
	secret := testSecret(t, sesame)
	input, lines := testInput(100)
	b := newBank()
	c := mustStart(t, inTurn(
		func(p *peer) {
			p.authenticate(secret, codec.Nonce{1})
			p.expect("HELLO|7")
			p.say(welcome(nil, 64, codec.FrameBytesMaxDefault))
			payload, err := p.frame()
			if err != nil {
				t.Error(err)
			}
			b.answer(t, payload) // stores the batch; the ACK is not sent
		},
		func(p *peer) { p.authenticate(secret, codec.Nonce{2}) }, // this connection breaks too
		func(p *peer) {
			p.authenticate(secret, codec.Nonce{3})
			b.serve(p)
		},
	), WithSecret(secret), WithBatchBets(10))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	b.check(t, lines)
	if winners, err := c.Winners(t.Context()); err != nil || winners.Count() != 10 {
		t.Errorf("%d winners, %v", winners.Count(), err)
	}
}

// The agency doesn't repeat a rejected authentication. The error says what to do.
func TestSecretRejected(t *testing.T) {
	for _, test := range []struct {
		name   string
		secret string
		serve  func(*peer)
		code   codec.Code // of a RejectedError, or CodeNone
		err    error      // without a code
		says   string
	}{
		{
			"wrong secret", sesame, func(p *peer) { p.authenticate(testSecret(t, "sesame-of-agency-8"), codec.Nonce{1}) },
			codec.CodeAuthenticationFailed, nil, "check the agency's id and its secret",
		},
		{
			"no secret", "", func(p *peer) {
				p.expect("HELLO|7")
				p.say("ERROR_AUTHENTICATION_REQUIRED")
				p.expectClosed()
			},
			codec.CodeAuthenticationRequired, nil, "AGENCY_SECRET or AGENCY_SECRET_FILE",
		},
		{
			"nobody asks", sesame, func(p *peer) {
				p.expect("AUTH|7")
				p.say("ERROR_INVALID_BATCH")
				p.expectClosed() // the agency sends no bet to such a server
			},
			codec.CodeNone, ErrNotAsked, "SERVER_AGENCY_SECRETS_FILE",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			logs := newLogBook(slog.LevelDebug)
			opts := []Option{WithLogger(slog.New(logs))}
			if test.secret != "" {
				opts = append(opts, WithSecret(testSecret(t, test.secret)))
			}
			_, err := start(t, inTurn(test.serve), opts...) // a second connection would be an error
			var rejected *RejectedError
			if test.err != nil && !errors.Is(err, test.err) || test.code != codec.CodeNone && (!errors.As(err, &rejected) || rejected.Code != test.code) {
				t.Errorf("error %v, want %v or %v", err, test.code, test.err)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want it to say %q", err, test.says)
			}
			said := err.Error()
			for _, line := range logs.all() {
				said += line.String()
			}
			if strings.Contains(said, "sesame") {
				t.Errorf("the secret is shown: %s", said)
			}
		})
	}
}
