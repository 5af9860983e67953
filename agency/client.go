package agency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"loteria/codec"
)

// Client is an agency's connection to the server. It reconnects when the connection breaks. Its
// methods may be called from any goroutine; Upload, Winners and Confirm run one after the other.
type Client struct {
	config   config
	addr     string // as Dial was given it
	patience patience
	agency   codec.Agency
	stored   atomic.Int64 // a copy of session.Stored(), for other goroutines

	closing context.Context // done once Close is called
	close   context.CancelFunc

	// The one call that drives the session holds calls. It guards all fields that follow.
	calls   sync.Mutex
	session *Session
	conn    *conn // nil if there is none
	out     []byte

	// source and batches belong to the running Upload, and are nil without one. batches is also nil
	// after the last batch.
	source   *source
	batches  <-chan *Batch
	progress Progress
	winners  *Winners
	// incomplete: the last Upload failed.
	incomplete bool

	backoff *backoff.ExponentialBackOff
	// failures counts the tries and connections that failed since the last WELCOME; failure is the
	// last error.
	failures  int
	failure   error
	route     route
	pause     pause     // what follows the last failure
	welcomed  time.Time // when the last WELCOME came
	reachable time.Time // when the server was last known to be reachable
	// answerLate fires when an answer is overdue, pollDue when it is time to ask for the winners
	// again.
	answerLate *time.Timer
	pollDue    *time.Timer
}

// Progress is how far an Upload has come.
type Progress struct {
	Stored       int64 // bets of the agency that are durable, from this process or another
	Acknowledged int64 // bets that were acknowledged to this Upload
	Batches      int64 // batches of the acknowledged bets
	PayloadBytes int64 // payload bytes of these batches
	// Reconnects is how often the connection was lost during this Upload, also to a server that sent
	// the client on to another one.
	Reconnects int
}

const (
	// dialTimeoutMin is the least time that a try to connect gets.
	dialTimeoutMin = 50 * time.Millisecond

	reconnectDelayMin = 50 * time.Millisecond
	reconnectDelayMax = 2 * time.Second
	// lastWordsTimeout is how long to read after a failed write, for what the server said before it
	// closed.
	lastWordsTimeout = time.Second
)

// Dial connects to the server at addr (host:port) as agency id, and returns when the server has
// said how many bets it has. It keeps trying if the server is not there yet, see WithRetryFor. Its
// errors are ErrOption, ErrCredentials, and those of Upload that are not about the input.
//
// If several servers hold the draw together, addr has their addresses with commas between them
// (server1:12345,server2:12345), AddrsMax at most, none of them twice. The client tries them in
// turn, and goes where a server says that the leader is. See the package's documentation.
//
// ctx limits only Dial, not the client. The caller has to Close the client.
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
	addrs, err := splitAddrs(addr)
	if err != nil {
		return nil, err
	}
	c := &Client{
		config:   cfg,
		addr:     addr,
		patience: patienceWith(len(addrs)),
		agency:   id,
		route:    route{addrs: addrs},
		session:  NewSession(id, cfg.window),
		backoff: &backoff.ExponentialBackOff{
			InitialInterval:     reconnectDelayMin,
			RandomizationFactor: backoff.DefaultRandomizationFactor,
			Multiplier:          2,
			MaxInterval:         reconnectDelayMax,
		},
		answerLate: stoppedTimer(),
		pollDue:    stoppedTimer(),
	}
	if c.config.dial == nil {
		c.config.dial = c.patience.dialTCP
	}
	if cfg.tls != nil {
		if _, err := cfg.tls.read(id); err != nil {
			return nil, err
		}
	}
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

// Stored is how many of the agency's bets are known to be durable, from this process or another.
func (c *Client) Stored() int64 { return c.stored.Load() }

// Upload sends the bets of input, and returns when all of them are durable. input is CSV without a
// header (first name, last name, document, birthdate, number). Upload skips the bets that are
// stored already. Errors call the input name.
//
// Upload reconnects as often as it has to. It fails with a *RowError at the first row that can't be
// a bet. It doesn't send that row's batch, but may have sent those before. Other errors are
// *RejectedError, ErrUnreachable, ErrNotAsked, ErrSpeaksTLS, ErrLostBets, ErrOtherBets, ErrFrameBytes,
// ErrReplyTooLarge, ErrProtocol, ErrClosed, ctx's, or what reading input returned. After an error
// Upload may be called again, with the input from its beginning.
//
// On each connection, before it sends a bet, it compares the stored bets with the first bets of the
// input, see ErrOtherBets. Winners and Confirm compare with the input of the last Upload.
//
// Another goroutine reads input. It has ended when Upload returns without an error. After an error
// it ends as soon as its current Read returns.
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
	if rejected, ok := errors.AsType[*RejectedError](err); ok && rejected.Line > 0 {
		rejected.Name = name
	}
	if err == nil && c.source.total == 0 {
		c.config.logger.LogAttrs(ctx, slog.LevelWarn, "lectura",
			slog.String("result", "success"), slog.Int64("cantidad", 0), slog.String("archivo", name),
			slog.String("aviso", "the file has no bets; the report that follows is final"))
	}
	return c.progress, err
}

// Winners reports that the agency has no more bets, waits for the draw, and returns the winning
// bets. The draw takes place when all agencies have reported. While Winners waits it sends nothing,
// unless the server has to be polled. It may be called again. Its errors are those of Upload that
// are not about rows, and ErrIncomplete after an Upload that failed, since a report is final.
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

// Confirm tells the server that the agency has its winners where they have to be, and returns when
// the server has stored that durably. The server waits for every agency's receipt, so call Confirm
// once the winners can't be lost any more, even in a process that didn't fetch them itself. It may
// be called again.
//
// Its errors are those of Winners. ErrUnreachable also comes when the server can be reached, but
// has not answered for as long as WithRetryFor allows; a pending answer gets some seconds more. The
// winners are safe then; only the server doesn't know. ErrLostBets also comes when the server says
// that the draw hasn't taken place.
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

// Close closes the connection. A running call returns ErrClosed, and so do later calls. Closing
// again is harmless.
func (c *Client) Close() error {
	c.close()
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.disconnect()
}

// run drives the session until reached returns true. After an error there is no connection.
func (c *Client) run(ctx context.Context, reached func() bool) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closing, func() { cancel(ErrClosed) })()
	if c.closing.Err() != nil {
		return ErrClosed // AfterFunc may not have run yet
	}
	defer c.pollDue.Stop()
	defer func() {
		if err != nil {
			err = errors.Join(err, c.disconnect())
		}
	}()
	c.reachable = time.Now() // every call gets the full WithRetryFor
	for {
		// Checked first: a call with a done context must not do anything.
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

// step waits for one thing to happen and handles it. An error is final.
func (c *Client) step(ctx context.Context) error {
	// Replies go before the clock: while a write was slow, nobody could receive them in time.
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

// push gives the session the batch and all others that are ready, so that they leave in one write.
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
	c.batches = nil // a closed channel is always ready
	if c.source.err != nil {
		return c.source.err
	}
	return c.session.Finish(c.source.total)
}

// flush writes what the session has to send. It doesn't return a failed write's error: the server
// may have said why it closed, and reading tells.
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

// receive handles what the connection's goroutine has read.
func (c *Client) receive(ctx context.Context, in inbound) error {
	switch {
	case errors.Is(in.err, codec.ErrFrameTooLarge):
		return fmt.Errorf("%w: %w; raise AGENCY_REPLY_BYTES_MAX (WithReplyBytesMax)", ErrReplyTooLarge, in.err)
	case errors.Is(in.err, ErrSpeaksTLS):
		return in.err
	case errors.Is(in.err, codec.ErrFrameHeader):
		return fmt.Errorf("%w: %w", ErrProtocol, in.err)
	case in.err != nil:
		c.lose(ctx, c.conn.lostReason(in.err))
		return nil
	}
	defer c.conn.release(in.frames)
	c.answerLate.Reset(c.patience.answer)
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
		switch ev.Kind {
		case EventRetry:
			c.lose(ctx, ev.Err)
			return nil
		case EventNotLeader:
			c.goOn(ctx, ev)
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

// handle handles an event that doesn't end the connection.
func (c *Client) handle(ctx context.Context, ev Event) error {
	c.stored.Store(c.session.Stored())
	c.progress.Stored = c.session.Stored()
	switch ev.Kind {
	case EventWelcome:
		c.welcomed = time.Now()
		if c.failures > 0 {
			c.logConnect(ctx, slog.LevelInfo, c.route.addr(),
				slog.String("result", "success"), slog.Int("intento", c.failures+1))
			c.failures = 0
		}
	case EventAcked:
		c.progressed()
		c.progress.Acknowledged += int64(ev.Batch.Count())
		c.progress.Batches++
		c.progress.PayloadBytes += int64(len(ev.Batch.payload()))
		c.config.logger.LogAttrs(ctx, slog.LevelInfo, "apuesta_enviada",
			slog.String("result", "success"), slog.Int("cantidad", ev.Batch.Count()))
		if c.source != nil {
			c.source.reuse(ev.Batch)
		}
	case EventConfirmed:
		c.progressed()
	case EventHold:
		c.backoff.Reset()
		c.pollDue.Reset(jitter(c.config.pollEvery))
	case EventWinners:
		c.progressed()
		w, err := parseWinners(bytes.Clone(ev.Winners))
		if err != nil {
			return err
		}
		c.winners = &w
	}
	return nil
}
