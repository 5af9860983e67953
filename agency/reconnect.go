package agency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// connect makes a connection. It tries again until the server was unreachable for too long.
func (c *Client) connect(ctx context.Context) error {
	for {
		if c.failures > 0 {
			if err := c.await(ctx); err != nil {
				return err
			}
		}
		limit := max(min(dialTimeout, c.retryLeft()), dialTimeoutMin)
		dialing, cancel := context.WithTimeout(ctx, limit)
		nc, err := c.config.dial(dialing, c.addr)
		cancel()
		switch {
		case ctx.Err() != nil && err == nil:
			return errors.Join(context.Cause(ctx), nc.Close())
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			c.conn = newConn(nc, c.config.replyBytesMax)
			c.session.Connect()
			return nil
		}
		c.fail(ctx, err)
	}
}

// await waits before the next try, or gives up.
func (c *Client) await(ctx context.Context) error {
	left := c.retryLeft()
	if left <= 0 {
		return fmt.Errorf("%w: %s, for %v: %w; check the address and that the server runs, then start again",
			ErrUnreachable, c.addr, c.config.retryFor, c.failure)
	}
	delay := time.NewTimer(min(c.backoff.NextBackOff(), left))
	defer delay.Stop()
	select {
	case <-delay.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lose gives up the connection. The next one continues the work.
func (c *Client) lose(ctx context.Context, reason error) {
	if c.session.Ready() {
		// A server that acknowledges no receipt gets no more time than one that isn't there.
		if !c.session.Confirming() {
			c.reachable = time.Now()
		}
		// The delay stays long for a server that fails right after its WELCOME. It starts again for
		// one that has served for a while.
		if time.Since(c.welcomed) > reconnectDelayMax {
			c.backoff.Reset()
		}
	}
	if c.pollDue.Stop() {
		c.session.Ask() // right after the next welcome
	}
	c.progress.Reconnects++
	c.fail(ctx, errors.Join(reason, c.disconnect()))
}

// fail counts and logs a failure.
func (c *Client) fail(ctx context.Context, reason error) {
	c.failures++
	c.failure = reason
	c.config.logger.LogAttrs(ctx, slog.LevelWarn, "connect",
		slog.String("result", "fail"), slog.Any("error", reason), slog.Int("intento", c.failures))
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
		return answerTimeout
	}
	return min(answerTimeout, max(c.retryLeft(), reconnectDelayMin))
}

// retryLeft is how much longer the server may stay unreachable.
func (c *Client) retryLeft() time.Duration { return c.config.retryFor - time.Since(c.reachable) }

// jitter returns a random 0.5 to 1.5 times d, so that agencies don't all come at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
