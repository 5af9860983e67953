package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"loteria/engine"
	"loteria/engine/admin"
	"loteria/engine/admin/board"
	"loteria/engine/history"
)

const (
	// boardPace is how long the largest agency of a demo uploads that is watched.
	boardPace = 30 * time.Second
	// paceSteps is in how many steps it does.
	paceSteps = 500
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

// lastDraw is the draw in a ledger, with the times that its server has seen.
type lastDraw struct {
	*engine.Past
	state *board.State
}

// State implements admin.Source.
func (d lastDraw) State() *board.State { return d.state }

// serveLastBoard serves the draw that a server has left in dir, at the address where it served it
// itself, until ctx is done.
func serveLastBoard(ctx context.Context, addr, dir string, w io.Writer) error {
	past, err := engine.OpenPast(history.In(dir))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, engine.BoardFile)
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	state, err := board.Read(page)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	server, err := admin.Open(admin.Settings{Addr: addr}, zap.NewNop())
	if err != nil {
		return fmt.Errorf("%w: the board is in %s, too", err, file)
	}
	return serveBoard(ctx, server, lastDraw{past, state}, "shows the last state, "+file+" ", w)
}
