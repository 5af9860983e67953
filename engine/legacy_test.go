package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// player is an agency in a draw: it uploads its bets, and waits for its
// winners, which it returns.
type player interface {
	play(ctx context.Context, addr string, id codec.Agency, bets []string) (winners string, err error)
}

// legacyAgency is an agency as they were written for the old server: it waits
// for every answer before it says anything else, and asks for its winners
// until it has them.
type legacyAgency struct {
	// everyMessage: each message has a connection of its own.
	everyMessage bool
	// shuts: it ends its side of the connection behind each message, as nc -N
	// does. Each message has a connection of its own then, too.
	shuts bool
	// newline: a batch ends with '\n'.
	newline bool
}

const (
	legacyBatchBets = 4
	legacyPollEvery = 2 * time.Millisecond
)

func (a legacyAgency) play(ctx context.Context, addr string, id codec.Agency, bets []string) (string, error) {
	line := &legacyLine{addr: addr, everyMessage: a.everyMessage || a.shuts, shuts: a.shuts}
	winners, err := a.talk(ctx, line, id, bets)
	return winners, errors.Join(err, line.hangUp())
}

func (a legacyAgency) talk(ctx context.Context, line *legacyLine, id codec.Agency, bets []string) (string, error) {
	for batch := range slices.Chunk(bets, legacyBatchBets) {
		payload := strings.Join(batch, "\n")
		if a.newline {
			payload += "\n"
		}
		answer, err := line.ask(ctx, payload)
		if err != nil {
			return "", err
		}
		if answer != "ACK" {
			return "", fmt.Errorf("a batch is answered %q", answer)
		}
	}
	for {
		answer, err := line.ask(ctx, fmt.Sprintf("GET_WINNERS|%d", id))
		if err != nil || answer != "ERROR_LOTTERY_HASNT_ENDED" {
			return answer, err
		}
		select {
		case <-time.After(legacyPollEvery):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// legacyLine is a legacyAgency's way to the server. It has no connection
// before the first message.
type legacyLine struct {
	addr         string
	everyMessage bool
	shuts        bool

	wire *wire
}

// ask sends a message and returns its answer.
func (l *legacyLine) ask(ctx context.Context, payload string) (string, error) {
	if l.wire == nil {
		var err error
		if l.wire, err = dial(ctx, l.addr, nil, patience); err != nil {
			return "", err
		}
	}
	if _, err := l.wire.conn.Write(frames(payload)); err != nil {
		return "", err
	}
	if l.shuts {
		if err := l.wire.conn.CloseWrite(); err != nil {
			return "", err
		}
	}
	answer, err := l.wire.next()
	if err == nil && l.everyMessage {
		err = l.hangUp()
	}
	return answer, err
}

// hangUp closes the connection. Behind the answers there must be nothing more:
// one that ended its side reads the end of the other's.
func (l *legacyLine) hangUp() error {
	if l.wire == nil {
		return nil
	}
	rest := l.wire.in.Buffered()
	var err error
	if l.shuts {
		var more []byte
		more, err = io.ReadAll(l.wire.in)
		rest = len(more)
	}
	if rest > 0 {
		err = errors.Join(err, fmt.Errorf("%d bytes behind the answer", rest))
	}
	err = errors.Join(err, l.wire.conn.Close())
	l.wire = nil
	return err
}

// newAgency is one of ours.
type newAgency struct{}

func (newAgency) play(ctx context.Context, addr string, id codec.Agency, bets []string) (string, error) {
	var rows strings.Builder
	for _, bet := range bets {
		fields := strings.Split(bet, "|")
		rows.WriteString(strings.Join(fields[:len(fields)-1], ",") + "\r\n")
	}
	c, err := agency.Dial(ctx, addr, id, agency.WithBatchBets(legacyBatchBets), agency.WithPollEvery(legacyPollEvery))
	if err != nil {
		return "", err
	}
	_, err = c.Upload(ctx, "bets", strings.NewReader(rows.String()))
	if err != nil {
		return "", errors.Join(err, c.Close())
	}
	winners, err := c.Winners(ctx)
	if err == nil {
		err = c.Confirm(ctx)
	}
	return string(winners.Bytes()), errors.Join(err, c.Close())
}

// TestLegacyAgencies: "Agencies that were written for the old server work
// unchanged", whatever they do about connections and newlines, in both modes
// and scopes, alone and beside new ones. The server ends by itself.
func TestLegacyAgencies(t *testing.T) {
	kinds := []struct {
		name   string
		player player
	}{
		{"one connection", legacyAgency{}},
		{"one connection, newline", legacyAgency{newline: true}},
		{"connection a message", legacyAgency{everyMessage: true}},
		{"connection a message, newline", legacyAgency{everyMessage: true, newline: true}},
		{"half-closing", legacyAgency{shuts: true}},
		{"half-closing, newline", legacyAgency{shuts: true, newline: true}},
		{"new", newAgency{}},
	}
	const agencies = 3
	type fleet struct {
		name    string
		players []player
	}
	fleets := []fleet{{name: "mixed"}}
	for _, k := range kinds {
		fleets[0].players = append(fleets[0].players, k.player)
		fleets = append(fleets, fleet{k.name, slices.Repeat([]player{k.player}, agencies)})
	}
	for _, mode := range []string{engine.WinnersPush, engine.WinnersPoll} {
		for _, scope := range []string{engine.ScopeAgency, engine.ScopeAll} {
			for _, f := range fleets {
				t.Run(mode+"/"+scope+"/"+f.name, func(t *testing.T) {
					inTurn(t)
					cfg := engine.DefaultConfig()
					cfg.Addr, cfg.DataDir = "127.0.0.1:0", t.TempDir()
					cfg.Agencies, cfg.Winners, cfg.WinnersScope = len(f.players), mode, scope
					playFleet(t, cfg, f.players)
				})
			}
		}
	}
}

func playFleet(t *testing.T, cfg engine.Config, players []player) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server := serveLogging(t, cfg, zap.NewNop(), ledger.Options{})
	type result struct {
		id      int
		winners string
		err     error
	}
	results := make(chan result, len(players))
	bets := make([][]string, len(players))
	for i, p := range players {
		bets[i] = betsOf(i + 1)
		go func() {
			winners, err := p.play(ctx, server.Addr().String(), codec.Agency(i+1), bets[i])
			results <- result{i + 1, winners, err}
		}()
	}
	got := make([]string, len(players))
	for range players {
		r := <-results
		if r.err != nil {
			cancel() // the others would wait for ever
			server.stop()
			t.Errorf("agency %d: %v", r.id, r.err)
		}
		got[r.id-1] = r.winners
	}
	if err := server.end(t); err != nil {
		t.Errorf("the server ends with: %v", err)
	}
	if ctx.Err() != nil {
		t.Fatalf("the draw did not come to its end: %v", ctx.Err())
	}

	stored, winners := exportLines(t, cfg.DataDir)
	for i := range players {
		id := strconv.Itoa(i + 1)
		mine := slices.DeleteFunc(slices.Clone(stored), func(line string) bool { return !strings.HasSuffix(line, "|"+id) })
		if !slices.Equal(mine, bets[i]) {
			t.Errorf("agency %s's bets in the ledger are\n%q\nwant\n%q", id, mine, bets[i])
		}
		want := winners
		if cfg.WinnersScope == engine.ScopeAgency {
			want = slices.DeleteFunc(slices.Clone(bets[i]), func(line string) bool { return !wins(line) })
		}
		if want := strings.Join(want, "\n"); got[i] != want {
			t.Errorf("agency %s got the winners\n%q\nwant\n%q", id, got[i], want)
		}
	}
}

// betsOf is what an agency plays: a few batches, the last one not full, with a
// winner in every third bet. Every third agency has none.
func betsOf(id int) []string {
	const bets = 5*legacyBatchBets - 1
	numbers := []string{"7574", "1", "0", "07574", "999999999", "75740"}
	if id%3 == 0 {
		numbers = []string{"7573", "7575"}
	}
	lines := make([]string, bets)
	for i := range lines {
		lines[i] = fmt.Sprintf("José Ñ%d|Pérez|%08d|1990-02-%02d|%s|%d", id, 1000*id+i, 1+i%28, numbers[i%len(numbers)], id)
	}
	return lines
}

func exportLines(t *testing.T, dataDir string) (stored, winners []string) {
	t.Helper()
	var betsCSV, winnersCSV bytes.Buffer
	exported, err := history.Export(history.In(dataDir), &betsCSV, &winnersCSV)
	if err != nil {
		t.Fatal(err)
	}
	if !exported.Drawn {
		t.Error("the ledger doesn't hold the draw")
	}
	stored, errStored := wireLines(&betsCSV)
	winners, errWinners := wireLines(&winnersCSV)
	if err := errors.Join(errStored, errWinners); err != nil {
		t.Fatal(err)
	}
	return stored, winners
}
