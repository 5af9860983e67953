package agency

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"loteria/codec"
)

// Defaults and limits of the options.
const (
	BatchBetsDefault  = 150
	BatchBytesDefault = 8192
	WindowDefault     = 32
	RetryForDefault   = time.Minute
	PollEveryDefault  = 500 * time.Millisecond

	// BatchBytesMin is large enough for every legal bet.
	BatchBytesMin = codec.BetBytesMax
	BatchBytesMax = codec.FrameBytesMaxLimit
	WindowMax     = 1024
)

// Option changes how a client behaves. See the With functions.
type Option func(*config)

// config holds the value of every option. Nothing changes it after Dial.
type config struct {
	batchBets     int
	batchBytes    int
	window        int
	retryFor      time.Duration
	pollEvery     time.Duration
	replyBytesMax int
	secret        codec.Secret
	tls           *TLS // nil: plain
	clock         func() time.Time
	logger        *slog.Logger
	progress      func(Progress)
	dial          func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
}

func configDefault() config {
	return config{
		batchBets:     BatchBetsDefault,
		batchBytes:    BatchBytesDefault,
		window:        WindowDefault,
		retryFor:      RetryForDefault,
		pollEvery:     PollEveryDefault,
		replyBytesMax: codec.ReplyBytesMaxDefault,
		clock:         time.Now,
		logger:        slog.New(slog.DiscardHandler),
		progress:      func(Progress) {},
	}
}

func (c *config) validate() error {
	switch {
	case c.batchBets < 1:
		return fmt.Errorf("%w: WithBatchBets(%d): a batch has at least 1 bet", ErrOption, c.batchBets)
	case c.batchBytes < BatchBytesMin || c.batchBytes > BatchBytesMax:
		return fmt.Errorf("%w: WithBatchBytes(%d): %d to %d bytes are legal", ErrOption, c.batchBytes, BatchBytesMin, BatchBytesMax)
	case c.window < 1 || c.window > WindowMax:
		return fmt.Errorf("%w: WithWindow(%d): 1 to %d frames are legal", ErrOption, c.window, WindowMax)
	case c.retryFor < 0:
		return fmt.Errorf("%w: WithRetryFor(%v): a negative duration", ErrOption, c.retryFor)
	case c.pollEvery <= 0:
		return fmt.Errorf("%w: WithPollEvery(%v): has to be positive", ErrOption, c.pollEvery)
	case c.replyBytesMax < 1:
		return fmt.Errorf("%w: WithReplyBytesMax(%d): has to be positive", ErrOption, c.replyBytesMax)
	case c.clock == nil:
		return fmt.Errorf("%w: WithClock(nil)", ErrOption)
	case c.logger == nil:
		return fmt.Errorf("%w: WithLogger(nil)", ErrOption)
	case c.progress == nil:
		return fmt.Errorf("%w: WithProgress(nil)", ErrOption)
	}
	if c.tls != nil {
		return c.tls.validate()
	}
	return nil
}

// WithBatchBets limits the bets of a batch, at least 1 (default BatchBetsDefault).
func WithBatchBets(bets int) Option { return func(c *config) { c.batchBets = bets } }

// WithBatchBytes limits the payload bytes of a batch, BatchBytesMin to BatchBytesMax (default
// BatchBytesDefault). The server's limit counts if it is smaller.
func WithBatchBytes(bytes int) Option { return func(c *config) { c.batchBytes = bytes } }

// WithWindow limits how many frames may be unanswered at once, 1 to WindowMax (default
// WindowDefault). The server's window counts if it is smaller.
func WithWindow(frames int) Option { return func(c *config) { c.window = frames } }

// WithRetryFor sets how long the server may be unreachable before a call gives up with
// ErrUnreachable (default RetryForDefault). The time counts from the start of the call, or from
// when a welcomed connection broke; Client.Confirm always counts from its start. 0 allows no second
// try. With several addresses the call gives up only at the end of a round over them; when the time
// is over, each address that is left gets 50 ms to connect and 50 ms to answer.
func WithRetryFor(d time.Duration) Option { return func(c *config) { c.retryFor = d } }

// WithPollEvery sets the mean delay between two GET_WINNERS to a server that has to be polled for
// winners (default PollEveryDefault). A server that pushes is asked once.
func WithPollEvery(d time.Duration) Option { return func(c *config) { c.pollEvery = d } }

// WithReplyBytesMax limits a reply's payload, in bytes (default codec.ReplyBytesMaxDefault). The
// winners are the largest reply.
func WithReplyBytesMax(bytes int) Option { return func(c *config) { c.replyBytesMax = bytes } }

// WithSecret makes the client prove on every connection that it knows the secret that it shares
// with the server. The secret itself is never sent. The client fails with ErrNotAsked if the server
// doesn't ask for the proof. Default: no secret.
func WithSecret(s codec.Secret) Option { return func(c *config) { c.secret = s } }

// WithTLS makes the client connect by TLS, see TLS. A server that asks for the agency's certificate
// knows by it who this is: the client then proves no secret. Default: plain TCP.
func WithTLS(t TLS) Option { return func(c *config) { c.tls = &t } }

// WithClock sets the clock whose UTC day is the latest legal birthdate (default time.Now). It is
// called once a batch, from a goroutine of Upload.
func WithClock(now func() time.Time) Option { return func(c *config) { c.clock = now } }

// WithLogger makes the client log to l. At INFO it logs apuesta_enviada for every acknowledged
// batch, consulta_ganadores and ganadores_confirmados, and connect when a connection works after a
// failure or a server that was not the leader, which it also logs. At WARN it logs connect when a
// connection fails, and lectura when an input has no bets. The lines connect name the server, as
// addr, unless it is the only address that Dial was given.
// Each line is logged with the context of its call. The lines don't name the agency: add it with
// l.With. Default: no log.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithProgress makes the client call f after answers that change the Progress, such as
// acknowledgements. f runs in the goroutine that called Upload, or another method, and must be
// quick.
func WithProgress(f func(Progress)) Option { return func(c *config) { c.progress = f } }
