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

	// BatchBytesMin lets every legal bet fit into a batch.
	BatchBytesMin = codec.BetBytesMax
	BatchBytesMax = codec.FrameBytesMaxLimit
	WindowMax     = 1024
)

// Option changes how a client behaves. See the With functions.
type Option func(*config)

// config is every option's value. Nothing changes it after Dial.
type config struct {
	batchBets     int
	batchBytes    int
	window        int
	retryFor      time.Duration
	pollEvery     time.Duration
	replyBytesMax int
	secret        codec.Secret
	clock         func() time.Time
	logger        *slog.Logger
	progress      func(Progress)
	dial          func(ctx context.Context, addr string) (net.Conn, error)
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
		dial:          dialTCP,
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
	return nil
}

// WithBatchBets bounds a batch by its bets, at least 1 (default BatchBetsDefault).
func WithBatchBets(bets int) Option { return func(c *config) { c.batchBets = bets } }

// WithBatchBytes bounds a batch by its payload bytes, BatchBytesMin to
// BatchBytesMax (default BatchBytesDefault). The server's own limit holds
// where it is smaller.
func WithBatchBytes(bytes int) Option { return func(c *config) { c.batchBytes = bytes } }

// WithWindow bounds how many frames may be unanswered at once, 1 to WindowMax
// (default WindowDefault). The server's own window holds where it is smaller.
func WithWindow(frames int) Option { return func(c *config) { c.window = frames } }

// WithRetryFor sets for how long the server may be unreachable before a call
// gives up with ErrUnreachable, counted from when it was last heard or its
// connection broke; Client.Confirm counts from its beginning (default
// RetryForDefault). 0 allows no second try.
func WithRetryFor(d time.Duration) Option { return func(c *config) { c.retryFor = d } }

// WithPollEvery sets the mean delay between two questions to a server that
// has to be polled for winners (default PollEveryDefault). Servers that push
// are asked once.
func WithPollEvery(d time.Duration) Option { return func(c *config) { c.pollEvery = d } }

// WithReplyBytesMax bounds a reply's payload in bytes (default
// codec.ReplyBytesMaxDefault). The largest reply is the winners.
func WithReplyBytesMax(bytes int) Option { return func(c *config) { c.replyBytesMax = bytes } }

// WithSecret has the client prove on every connection that it knows the secret
// which it shares with the server. The secret is never sent, and only a server
// that asks for it is used: see ErrNotAsked. Default: none.
func WithSecret(s codec.Secret) Option { return func(c *config) { c.secret = s } }

// WithClock sets the clock whose UTC day is the last legal birthdate (default
// time.Now). It is called once a batch, from a goroutine of Upload's.
func WithClock(now func() time.Time) Option { return func(c *config) { c.clock = now } }

// WithLogger lets the client log its lines: apuesta_enviada for every
// acknowledged batch, consulta_ganadores and ganadores_confirmados at INFO, connect
// at WARN when a connection fails and at INFO when the next one works, lectura at
// WARN when an input has no bets. Each is logged with the context of the call that it
// belongs to. They don't say whose they are: that is for l's With. Default: nothing.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithProgress has f called from Upload's own goroutine whenever
// acknowledgements came in; f must be quick.
func WithProgress(f func(Progress)) Option { return func(c *config) { c.progress = f } }
