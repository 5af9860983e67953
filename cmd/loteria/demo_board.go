package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"loteria/engine"
)

const (
	// boardPace is how long the largest agency of a demo uploads that is watched.
	boardPace = 30 * time.Second
	// paceSteps is in how many steps it does.
	paceSteps = 500
	// boardHeaderTimeout is how long a browser may take to say what it asks for.
	boardHeaderTimeout = 5 * time.Second
)

// boardAddrs are addresses for the boards of so many servers: the default one, if it is free, and
// free ports.
func boardAddrs(ctx context.Context, servers int) (addrs []string, err error) {
	if isFree(ctx, boardAddrDefault) {
		addrs = append(addrs, boardAddrDefault)
	}
	others, err := freeAddrs(ctx, servers-len(addrs)) // their ports are higher than the default one
	return append(addrs, others...), err
}

// sayBoards says where the boards are. There are none without --board.
func (o demoOptions) sayBoards(w io.Writer) error {
	for i, addr := range o.boards {
		whose := ""
		if o.servers > 1 {
			whose = fmt.Sprintf(" (server %d)", i+1)
		}
		if _, err := fmt.Fprintf(w, "board    http://%s/board/%s\n", addr, whose); err != nil {
			return err
		}
	}
	return nil
}

// pace makes all agencies read their bets at the same number of bytes a second, with which the
// largest of them takes as long as given. 0 changes nothing.
func pace(participants []*participant, took time.Duration) {
	largest := slices.MaxFunc(participants, func(a, b *participant) int { return int(a.bytes - b.bytes) }).bytes
	if took == 0 || largest == 0 {
		return
	}
	step := int(largest/paceSteps) + 1
	perSecond := rate.Limit(float64(largest) / took.Seconds())
	for _, p := range participants {
		p.pace = func(ctx context.Context, r io.Reader) io.Reader {
			return &pacedReader{ctx, r, rate.NewLimiter(perSecond, step)}
		}
	}
}

// pacedReader reads at the rate of its limiter, in steps as large as its burst.
type pacedReader struct {
	ctx     context.Context // ends a Read that waits
	r       io.Reader
	limiter *rate.Limiter
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), p.limiter.Burst())])
	if errWait := p.limiter.WaitN(p.ctx, n); errWait != nil {
		return 0, errWait
	}
	return n, err
}

// serveLastBoard serves the page that a server has left in a file, at the address where it served it
// itself, until ctx is done.
func serveLastBoard(ctx context.Context, addr, file string, w io.Writer) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: the board is in %s, too", err, file)
	}
	handler := http.NewServeMux()
	handler.HandleFunc("GET /board/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, engine.BoardFile, time.Time{}, bytes.NewReader(page))
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: boardHeaderTimeout}
	if _, err := fmt.Fprintf(w, "board    http://%s/board/ shows the last state, %s (Ctrl-C ends it)\n", addr, file); err != nil {
		return errors.Join(err, listener.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // its error is Serve's
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
