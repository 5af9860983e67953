package agency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"loteria/codec"
)

// Client is an agency's connection to the server, as often as it has to be
// made anew. Its methods may be called from any goroutine; Upload, Winners and
// Confirm run one after the other.
type Client struct {
	config config
	addr   string
	agency codec.Agency
	stored atomic.Int64 // session's, for other goroutines

	closing context.Context // done when Close was called
	close   context.CancelFunc

	// calls is held by the one call that drives the session. It guards all
	// that follows.
	calls   sync.Mutex
	session *Session
	conn    *conn // nil if there is none
	out     []byte

	// source and its batches are those of the Upload that runs, else nil;
	// batches is nil also when there are no more.
	source   *source
	batches  <-chan *Batch
	progress Progress
	winners  *Winners
	// incomplete: an Upload failed since the last one that didn't.
	incomplete bool

	backoff *backoff.ExponentialBackOff
	// failures counts the tries and connections that failed since the server
	// last welcomed us; failure is the last of them.
	failures  int
	failure   error
	welcomed  time.Time // when this connection was
	reachable time.Time // when the server was last known to be there
	// answerLate fires when an answer is overdue, pollDue when it is time to
	// ask for the winners again.
	answerLate *time.Timer
	pollDue    *time.Timer
}

// Progress is how far an Upload has come.
type Progress struct {
	Stored       int64 // bets of the agency that are durable, whoever sent them
	Acknowledged int64 // of them, acknowledged to this Upload
	Batches      int64 // in how many batches
	PayloadBytes int64 // of how many bytes
	Reconnects   int   // how often the connection was lost meanwhile
}

const (
	// dialTimeoutMin is what a try to connect is given at least.
	dialTimeoutMin = 50 * time.Millisecond

	reconnectDelayMin = 50 * time.Millisecond
	reconnectDelayMax = 2 * time.Second
	// answerTimeout bounds how long a server may take to answer anything but
	// GET_WINNERS, and to take what is sent to it. Beyond it the connection is
	// given up, and the next one learns what was stored.
	answerTimeout = 15 * time.Second
	// lastWordsTimeout is how long to wait for what the server said before it
	// closed, after a failed write.
	lastWordsTimeout = time.Second
)

// Dial connects to the server at addr (host:port) as agency id, and returns
// when the server has said how many bets it has. A server that is not there
// yet is tried again, see WithRetryFor.
//
// ctx is for Dial alone. The caller has to Close the client.
func Dial(ctx context.Context, addr string, id codec.Agency, opts ...Option) (*Client, error) {
	cfg := configDefault()
	for _, opt := range opts {
		opt(&cfg)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if _, ok := codec.ParseAgency(codec.AppendAgency(nil, id)); !ok || id == 0 {
		return nil, fmt.Errorf("%w: agency %d: 1 to 999999999 are legal", ErrOption, id)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%w: address: %w; write it as host:port", ErrOption, err)
	}
	c := &Client{
		config:  cfg,
		addr:    addr,
		agency:  id,
		session: NewSession(id, cfg.window),
		backoff: &backoff.ExponentialBackOff{
			InitialInterval:     reconnectDelayMin,
			RandomizationFactor: backoff.DefaultRandomizationFactor,
			Multiplier:          2,
			MaxInterval:         reconnectDelayMax,
		},
		answerLate: stoppedTimer(),
		pollDue:    stoppedTimer(),
	}
	c.session.Authenticate(cfg.secret)
	c.closing, c.close = context.WithCancel(context.Background())
	if err := c.run(ctx, c.session.Ready); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Stored is how many of the agency's bets are known to be durable, whoever
// sent them.
func (c *Client) Stored() int64 { return c.stored.Load() }

// Upload sends the bets of input, rows of CSV without a header (first name,
// last name, document, birthdate, number), from the first one that is not
// stored yet, and returns when all of them are durable. name stands for the
// input in errors.
//
// It goes on over any number of connections. It fails with a *RowError at the
// first row that can't be a bet: the batch that would hold it is not sent,
// those before it may be. Other errors are *RejectedError, ErrUnreachable,
// ErrNotAsked, ErrLostBets, ErrOtherBets, ErrFrameBytes, ErrReplyTooLarge,
// ErrProtocol, ErrClosed, ctx's, or what reading input returned. After an error
// Upload may be called again, with the input from its beginning.
//
// Before it sends anything, on any connection, it compares the stored bets with the
// input's first: see ErrOtherBets. Winners and Confirm go on comparing with the input
// that was uploaded last.
//
// input is read in another goroutine, which ends before a successful return;
// after an error it ends when the Read that it may be in returns.
func (c *Client) Upload(ctx context.Context, name string, input io.Reader) (Progress, error) {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.session.Begin()
	c.progress = Progress{Stored: c.session.Stored()}
	limits := batchLimits{bets: c.config.batchBets, payloadBytes: min(c.config.batchBytes, c.session.frameBytesMax)}
	today := func() codec.Date { return codec.DateOf(c.config.clock().UTC()) }
	c.source = newSource(newRowReader(name, input, c.agency), limits, c.config.window, today)
	c.batches = c.source.batches
	defer func() { c.source, c.batches = nil, nil }()
	defer c.source.stop()
	go c.source.run()

	err := c.run(ctx, c.session.Uploaded)
	c.incomplete = err != nil
	if rejected := (*RejectedError)(nil); errors.As(err, &rejected) && rejected.Line > 0 {
		rejected.Name = name
	}
	if err == nil && c.source.total == 0 {
		c.config.logger.LogAttrs(ctx, slog.LevelWarn, "lectura",
			slog.String("result", "success"), slog.Int64("cantidad", 0), slog.String("archivo", name),
			slog.String("aviso", "the file has no bets; the report that follows is final"))
	}
	return c.progress, err
}

// Winners says that the agency has no more bets, waits for the draw, which
// takes place when all agencies have said so, and returns the winning bets.
// While it waits it sends nothing, unless the server has to be polled. It may
// be called again. Its errors are those of Upload, but for those about rows,
// and ErrIncomplete after an Upload that failed, since a report is final.
func (c *Client) Winners(ctx context.Context) (Winners, error) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if c.incomplete {
		return Winners{}, ErrIncomplete
	}
	c.winners = nil
	c.session.Ask()
	if err := c.run(ctx, func() bool { return c.winners != nil }); err != nil {
		return Winners{}, err
	}
	c.config.logger.LogAttrs(ctx, slog.LevelInfo, "consulta_ganadores",
		slog.String("result", "success"), slog.Int("cant_ganadores", c.winners.Count()))
	return *c.winners, nil
}

// Confirm tells the server that the agency has its winners where they have to be, and
// returns when the server knows it durably. Until then a server waits for this agency,
// so it is said when the winners can't be lost any more, also by a process that was
// given none itself. It may be called again.
//
// Its errors are those of Winners. ErrUnreachable also comes when the server can be
// reached, but has not answered for as long as WithRetryFor allows; an answer that is
// awaited then has some seconds more. Nothing is lost then but the server's knowledge.
// ErrLostBets also comes when the server says that the draw hasn't taken place.
func (c *Client) Confirm(ctx context.Context) error {
	c.calls.Lock()
	defer c.calls.Unlock()
	if c.incomplete {
		return ErrIncomplete
	}
	c.session.Confirm()
	if err := c.run(ctx, func() bool { return !c.session.Confirming() }); err != nil {
		return err
	}
	c.config.logger.LogAttrs(ctx, slog.LevelInfo, "ganadores_confirmados", slog.String("result", "success"))
	return nil
}

// Close closes the connection and makes a call that runs return ErrClosed.
// Closing again is harmless.
func (c *Client) Close() error {
	c.close()
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.disconnect()
}

// run drives the session until reached says so. After an error there is no
// connection.
func (c *Client) run(ctx context.Context, reached func() bool) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closing, func() { cancel(ErrClosed) })()
	if c.closing.Err() != nil {
		return ErrClosed // AfterFunc takes its time
	}
	defer c.pollDue.Stop()
	defer func() {
		if err != nil {
			err = errors.Join(err, c.disconnect())
		}
	}()
	c.reachable = time.Now() // a call has all of WithRetryFor
	for {
		// Before anything else, so that no done context gets anything done.
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if reached() {
			return nil
		}
		if c.conn == nil {
			if err := c.connect(ctx); err != nil {
				return err
			}
		}
		c.flush(ctx)
		if err := c.step(ctx); err != nil {
			return err
		}
	}
}

// step waits for one thing to happen and deals with it. An error is final.
func (c *Client) step(ctx context.Context) error {
	// What the server has said goes before the clock: a write that took long
	// may have kept it from being heard in time.
	select {
	case in := <-c.conn.replies:
		return c.receive(ctx, in)
	default:
	}
	var batches <-chan *Batch
	if c.session.Wants() {
		batches = c.batches
	}
	var late <-chan time.Time
	if c.session.Hurried() {
		late = c.answerLate.C
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case in := <-c.conn.replies:
		return c.receive(ctx, in)
	case b, more := <-batches:
		return c.push(b, more)
	case <-late:
		c.lose(ctx, errors.New("the server doesn't answer"))
		return nil
	case <-c.pollDue.C:
		c.session.Ask()
		return nil
	}
}

// push gives the session the batch and those that are ready behind it, so
// that they leave in one write.
func (c *Client) push(b *Batch, more bool) error {
	for more {
		if err := c.session.Push(b); err != nil {
			return err
		}
		if !c.session.Wants() {
			return nil
		}
		select {
		case b, more = <-c.batches:
		default:
			return nil
		}
	}
	c.batches = nil // it is closed: don't come here again
	if c.source.err != nil {
		return c.source.err
	}
	return c.session.Finish(c.source.total)
}

// flush writes what the session has to say. A failed write is not the end: the
// server may have said why it closed, and reading will tell.
func (c *Client) flush(ctx context.Context) {
	for c.conn.writeErr == nil {
		hurried := c.session.Hurried()
		c.out = c.session.Send(c.out[:0])
		if len(c.out) == 0 {
			return
		}
		if !hurried {
			c.answerLate.Reset(c.answerTimeout())
		}
		c.conn.write(ctx, c.out, c.answerTimeout(), lastWordsTimeout)
	}
}

// receive deals with what was read.
func (c *Client) receive(ctx context.Context, in inbound) error {
	switch {
	case errors.Is(in.err, codec.ErrFrameTooLarge):
		return fmt.Errorf("%w: %w; raise AGENCY_REPLY_BYTES_MAX (WithReplyBytesMax)", ErrReplyTooLarge, in.err)
	case errors.Is(in.err, codec.ErrFrameHeader):
		return fmt.Errorf("%w: %w", ErrProtocol, in.err)
	case in.err != nil:
		c.lose(ctx, c.conn.lostReason(in.err))
		return nil
	}
	defer c.conn.release(in.frames)
	c.answerLate.Reset(answerTimeout)
	before := c.progress
	for rest := in.frames; len(rest) > 0; {
		payload, after, _, err := codec.SplitFrame(rest, c.config.replyBytesMax)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		rest = after
		ev, err := c.session.Receive(payload)
		if err != nil {
			return err
		}
		if ev.Kind == EventRetry {
			c.lose(ctx, ev.Err)
			return nil
		}
		if err := c.handle(ctx, ev); err != nil {
			return err
		}
	}
	if c.progress != before {
		c.config.progress(c.progress)
	}
	return nil
}

// handle deals with an event that leaves the connection as it is.
func (c *Client) handle(ctx context.Context, ev Event) error {
	c.stored.Store(c.session.Stored())
	c.progress.Stored = c.session.Stored()
	switch ev.Kind {
	case EventWelcome:
		c.welcomed = time.Now()
		if c.failures > 0 {
			c.config.logger.LogAttrs(ctx, slog.LevelInfo, "connect",
				slog.String("result", "success"), slog.Int("intento", c.failures+1))
			c.failures = 0
		}
	case EventAcked:
		c.backoff.Reset()
		c.progress.Acknowledged += int64(ev.Batch.Count())
		c.progress.Batches++
		c.progress.PayloadBytes += int64(len(ev.Batch.payload()))
		c.config.logger.LogAttrs(ctx, slog.LevelInfo, "apuesta_enviada",
			slog.String("result", "success"), slog.Int("cantidad", ev.Batch.Count()))
		if c.source != nil {
			c.source.reuse(ev.Batch)
		}
	case EventConfirmed:
		c.backoff.Reset()
	case EventHold:
		c.backoff.Reset()
		c.pollDue.Reset(jitter(c.config.pollEvery))
	case EventWinners:
		c.backoff.Reset()
		w, err := parseWinners(bytes.Clone(ev.Winners))
		if err != nil {
			return err
		}
		c.winners = &w
	}
	return nil
}
