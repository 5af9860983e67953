package agency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"loteria/codec"
)

// connect makes a connection. It tries again until the server was unreachable for too long.
func (c *Client) connect(ctx context.Context) error {
	for {
		if c.failures > 0 {
			if err := c.await(ctx); err != nil {
				return err
			}
		}
		nc, proven, err := c.open(ctx, c.route.addr())
		switch {
		case ctx.Err() != nil && err == nil:
			return errors.Join(context.Cause(ctx), nc.Close())
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			c.conn = newConn(nc, c.config.replyBytesMax)
			secret := c.config.secret
			if proven {
				secret = codec.Secret{}
			}
			c.session.Authenticate(secret)
			c.session.Connect()
			return nil
		}
		c.fail(ctx, err)
	}
}

// open makes a connection to addr, by TLS if so configured. proven reports whether it has proved who
// this agency is.
func (c *Client) open(ctx context.Context, addr string) (nc net.Conn, proven bool, err error) {
	secured := c.config.tls
	if secured == nil {
		nc, err = c.dial(ctx, addr)
		return nc, false, err
	}
	own, err := secured.read(c.agency)
	if err != nil {
		return nil, false, err
	}
	if nc, err = c.dial(ctx, addr); err != nil {
		return nil, false, err
	}
	// The handshake waits for the server, as for any answer. When a leader is lost, all agencies come to
	// the next one at once.
	ctx, cancel := context.WithTimeout(ctx, c.answerTimeout())
	defer cancel()
	return secured.secure(ctx, nc, addr, own)
}

// dial makes the connection, or gives addr up.
func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	limit := max(min(c.patience.dial, c.retryLeft()), dialTimeoutMin)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.config.dial(ctx, addr)
}

// await waits before the next try if it has to, or gives up.
func (c *Client) await(ctx context.Context) error {
	if c.pause == pauseNone {
		return nil
	}
	left := c.retryLeft()
	if left <= 0 {
		return fmt.Errorf("%w: %s, for %v: %w; check the address and that the server runs, then start again",
			ErrUnreachable, c.addr, c.config.retryFor, c.failure)
	}
	delay := jitter(leaderUnknownDelay)
	if c.pause == pauseLong {
		delay = c.backoff.NextBackOff()
	}
	select {
	case <-time.After(min(delay, left)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lose gives up the connection. The next one continues the work.
func (c *Client) lose(ctx context.Context, reason error) {
	c.fail(ctx, errors.Join(reason, c.hangUp()))
}

// goOn gives up the connection to a server that is not the leader, and goes where it says.
func (c *Client) goOn(ctx context.Context, ev Event) {
	addr, reason := c.route.addr(), errors.Join(ev.Err, c.hangUp())
	c.pause = c.route.sentOn(ev.Leader)
	if c.pause == pauseNone {
		c.count(addr, reason)
		c.logConnect(ctx, slog.LevelInfo, addr, slog.String("result", "in_progress"),
			slog.String("motivo", reason.Error()), slog.Int("intento", c.failures))
		return
	}
	if ev.Leader != "" {
		reason = fmt.Errorf("sent on %d times without progress: %w", hopsMax+1, reason)
	}
	c.count(addr, reason)
	c.logFailure(ctx, addr, reason)
}

// hangUp closes a connection that can't be used any more.
func (c *Client) hangUp() error {
	if c.session.Ready() {
		// A server that acknowledges no receipt gets no more time than one that isn't there.
		if !c.session.Confirming() {
			c.reachable = time.Now()
		}
		// The delay stays long for a server that fails right after its WELCOME. It starts again for
		// one that has served for a while.
		if time.Since(c.welcomed) > reconnectDelayMax {
			c.progressed()
		}
	}
	if c.pollDue.Stop() {
		c.session.Ask() // right after the next welcome
	}
	c.progress.Reconnects++
	return c.disconnect()
}

// progressed makes the delays short again, and allows a whole round without any.
func (c *Client) progressed() {
	c.backoff.Reset()
	c.route.progressed()
}

// fail counts and logs a failure, and moves on to the next address.
func (c *Client) fail(ctx context.Context, reason error) {
	addr := c.route.addr()
	c.pause = c.route.failed()
	c.count(addr, reason)
	c.logFailure(ctx, addr, reason)
}

// count counts a try that failed. c.failure names the server unless it is the only one.
func (c *Client) count(addr string, reason error) {
	c.failures++
	c.failure = reason
	if addr != c.addr {
		c.failure = fmt.Errorf("%s: %w", addr, reason)
	}
}

func (c *Client) logFailure(ctx context.Context, addr string, reason error) {
	c.logConnect(ctx, slog.LevelWarn, addr, slog.String("result", "fail"),
		slog.Any("error", reason), slog.Int("intento", c.failures))
}

// logConnect logs the line connect about the server at addr. The only address that there is isn't
// named.
func (c *Client) logConnect(
	ctx context.Context, level slog.Level, addr string, attrs ...slog.Attr,
) {
	if addr != c.addr {
		attrs = append(attrs, slog.String("addr", addr))
	}
	c.config.logger.LogAttrs(ctx, level, "connect", attrs...)
}

// disconnect closes the connection, if there is one.
func (c *Client) disconnect() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.close()
	c.conn = nil
	c.session.Disconnect()
	return err
}

// answerTimeout is how long the next answer may take.
func (c *Client) answerTimeout() time.Duration {
	if c.session.Ready() {
		return c.patience.answer
	}
	return min(c.patience.answer, max(c.retryLeft(), reconnectDelayMin))
}

// retryLeft is how much longer the server may stay unreachable.
func (c *Client) retryLeft() time.Duration { return c.config.retryFor - time.Since(c.reachable) }

// jitter returns a random 0.5 to 1.5 times d, so that agencies don't all come at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
