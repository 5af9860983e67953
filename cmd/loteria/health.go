package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"loteria/codec"
	"loteria/engine/settings"
)

const healthHelp = `Ask the server here whether it takes requests. Run it where the server runs, with the
same environment, as a health check that needs no shell.

With SERVER_HTTP_ADDR it asks /readyz there: the server has replayed its ledger, is
not stopping, and knows who leads if it is one of several.

Without, it sends an empty batch to SERVER_ADDR. The server rejects it, and the rejection waits for the
disk like every answer. An empty batch names no agency, so it changes neither the
draw nor the server's end, and only the debug log shows it.

Exit codes: 0 healthy; 1 not.`

// healthTimeout bounds the whole check. It is long enough for a disk that is busy with a large
// group.
const healthTimeout = 2 * time.Second

// errUnhealthy says that the server doesn't answer as a healthy one does.
var errUnhealthy = errors.New("unhealthy")

// healthConfig is the part of the server's configuration that `loteria health` needs.
type healthConfig struct {
	HTTPAddr string `env:"SERVER_HTTP_ADDR" help:"address that the server listens on for those that watch; none if empty" legal:"HOST:PORT or :PORT"`
	Addr     string `env:"SERVER_ADDR" envDefault:":12345" help:"address that the server listens on" legal:"HOST:PORT or :PORT"`
}

func newHealthCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "health",
		Short:   "Tell whether the server here is alive",
		Long:    healthHelp + "\n\n" + environmentHelp(healthConfig{}),
		Example: "  SERVER_ADDR=:12345 loteria health",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg healthConfig
			if err := loadEnvironment(&cfg); err != nil {
				return err
			}
			if err := settings.CheckAddr("SERVER_ADDR", cfg.Addr, "HOST:PORT or :PORT"); err != nil {
				return err
			}
			if cfg.HTTPAddr != "" {
				if err := settings.CheckAddr("SERVER_HTTP_ADDR", cfg.HTTPAddr, "HOST:PORT or :PORT"); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			return askHealth(ctx, cfg)
		},
	}
}

// askHealth returns nil if the server says that it is ready, or answers an empty batch as it should.
// Its errors wrap errUnhealthy.
func askHealth(ctx context.Context, cfg healthConfig) error {
	if cfg.HTTPAddr != "" {
		return askReady(ctx, cfg.HTTPAddr)
	}
	answer, err := firstAnswer(ctx, cfg.Addr, codec.AppendFrame(nil, nil))
	if err != nil {
		return fmt.Errorf("%w: SERVER_ADDR=%s: %w: does the server run, and with this address?",
			errUnhealthy, cfg.Addr, err)
	}
	switch answer {
	case codec.CodeEmptyBatch.String():
		return nil
	case codec.CodeTooManyConnections.String():
		return nil // a full server is alive
	}
	return fmt.Errorf(
		"%w: SERVER_ADDR=%s answers %q: is it the lottery's server? its log says more",
		errUnhealthy, cfg.Addr, answer)
}

// reasonBytesMax is how much is shown of why a server isn't ready.
const reasonBytesMax = 256

// askReady returns nil if the server that listens for HTTP on addr is ready. An addr without a host
// means this machine.
func askReady(ctx context.Context, addr string) error {
	failed := func(err error) error {
		return fmt.Errorf("%w: SERVER_HTTP_ADDR=%s: %w: does the server run, and with this address?", errUnhealthy, addr, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return failed(err)
	}
	// Dial knows all addresses that listen knows, and no proxy comes between.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}}
	response, err := client.Do(request)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = response.Body.Close() }() // all of it is read, or not wanted
	reason, err := io.ReadAll(io.LimitReader(response.Body, reasonBytesMax))
	switch {
	case err != nil:
		return failed(err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: SERVER_HTTP_ADDR=%s answers %s: %q", errUnhealthy, addr, response.Status, bytes.TrimSpace(reason))
	}
	return nil
}

// answerBytesMax is more than the rejection of an empty batch takes, with its header.
const answerBytesMax = 256

// firstAnswer sends one frame and returns the payload of the first frame that comes back. An addr
// without a host means this machine, as for net.Dial.
func firstAnswer(ctx context.Context, addr string, frame []byte) (payload string, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write(frame); err != nil {
		return "", err
	}
	in := make([]byte, 0, answerBytesMax)
	for {
		n, errRead := conn.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		payload, _, ok, err := codec.SplitFrame(in, answerBytesMax)
		switch {
		case err != nil:
			return "", err
		case ok:
			return string(payload), nil
		case len(in) == cap(in):
			return "", codec.ErrFrameTooLarge
		case errors.Is(errRead, io.EOF):
			return "", io.ErrUnexpectedEOF
		case errRead != nil:
			return "", errRead
		}
	}
}
