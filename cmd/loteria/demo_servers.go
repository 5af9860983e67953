package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/mesh"
)

// demoServersMin is how few servers can lose one and go on.
const demoServersMin = 3

var errDemo = errors.New("demo")

// checkServers checks the flags of a demo with several servers, and that the data directory holds no
// other kind of draw: its servers would contradict what they have promised to each other.
func (o demoOptions) checkServers() error {
	if o.servers != 1 && (o.servers < demoServersMin || o.servers > mesh.ServersMax) {
		return fmt.Errorf("--servers %d is not legal: want 1, or %d to %d",
			o.servers, demoServersMin, mesh.ServersMax)
	}
	if o.killLeader && o.servers == 1 {
		return fmt.Errorf("--kill-leader needs --servers %d: nobody goes on for a server that is alone",
			demoServersMin)
	}
	there, err := filepath.Glob(filepath.Join(o.dataDir, "server-*"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(history.Dir(o.dataDir)); err == nil {
		there = []string{o.dataDir}
	}
	if len(there) != 0 && len(there) != o.servers {
		return fmt.Errorf("--data-dir %s holds a draw of --servers %d, not %d: choose another directory",
			o.dataDir, len(there), o.servers)
	}
	return nil
}

// serverDir is the data directory of one of several servers.
func (o demoOptions) serverDir(id int) string {
	return filepath.Join(o.dataDir, "server-"+strconv.Itoa(id))
}

// demoServers are several servers of one draw, in processes of their own, and what a demo has seen
// of them.
type demoServers struct {
	options      demoOptions
	log          *zap.Logger
	participants []*participant
	environment  []string // of all servers
	servers      []*demoServer

	known     chan struct{} // closed when every server knows the leader
	takenOver chan struct{} // closed when the draw goes on without the one that was killed
	back      chan struct{} // closed when the one that was killed follows that leader

	mu        sync.Mutex // guards what follows, and the servers
	timeline  timeline
	leader    *demoServer    // of the highest term that was heard of
	term      uint64         // that term; of the killed leader once one is killed
	elected   map[uint64]int // term: index of its moment in the timeline
	stored    int64          // bets
	holding   int            // agencies that have all their bets stored and are about to report
	killed    *demoServer    // nil: none yet
	successor *demoServer    // leads after it; nil: none yet
	wentOn    bool           // an agency has gone on with its upload after the kill
	restarted bool           // takenOver is closed
}

// demoServer is one of the servers, in one or two lives.
type demoServer struct {
	id          int
	addr        string // for agencies
	environment []string
	process     *os.Process
	follows     bool   // in this life it has known a leader
	failure     string // why this life failed, as far as it has said
}

// childError says how a server's process ended that should have ended with 0.
type childError struct {
	id, code int // code -1: a signal ended it
	said     string
}

func (e *childError) Error() string {
	return fmt.Sprintf("server %d: exit code %d: %s", e.id, e.code, e.said)
}

func newDemoServers(
	ctx context.Context, options demoOptions, participants []*participant, log *zap.Logger,
) (*demoServers, error) {
	d := &demoServers{
		options: options, log: log, participants: participants,
		known: make(chan struct{}), takenOver: make(chan struct{}), back: make(chan struct{}),
		elected: map[uint64]int{},
	}
	d.timeline.began = time.Now()
	var addrs []string // for the servers, then for agencies, then for those over TLS
	for len(addrs) < 3*options.servers {
		addr, err := freeAddr(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addrs, addr) && !slices.Contains(options.boards, addr) {
			addrs = append(addrs, addr)
		}
	}
	var peers []string
	n := options.servers
	for i := range n {
		s := &demoServer{id: i + 1, addr: addrs[n+i]}
		s.environment = []string{
			"SERVER_ID=" + strconv.Itoa(s.id), "SERVER_ADDR=" + s.addr,
			"SERVER_DATA_DIR=" + options.serverDir(s.id),
		}
		if options.board {
			s.environment = append(s.environment, "SERVER_HTTP_ADDR="+options.boards[i])
		}
		peer := fmt.Sprintf("%d=%s/%s", s.id, addrs[i], s.addr)
		if options.tls {
			s.addr = addrs[2*n+i]
			peer += "/" + s.addr
			own := role{codec.IdentityServer, s.id}
			cert, key, authority := options.cert(own.name()), options.key(own.name()), options.cert(certsAuthority)
			s.environment = append(s.environment, "SERVER_TLS_ADDR="+s.addr,
				"SERVER_TLS_CERT_FILE="+cert, "SERVER_TLS_KEY_FILE="+key, "SERVER_TLS_CLIENT_CA_FILE="+authority,
				"SERVER_PEER_TLS_CERT_FILE="+cert, "SERVER_PEER_TLS_KEY_FILE="+key, "SERVER_PEER_TLS_CA_FILE="+authority)
		}
		d.servers = append(d.servers, s)
		peers = append(peers, peer)
	}
	// As with one server, no variable of the environment changes the demo's servers. They log
	// everything that the timeline is made of; the demo's own logger drops what isn't wanted.
	d.environment = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "SERVER_")
	})
	level := zapcore.InfoLevel
	if log.Core().Enabled(zapcore.DebugLevel) {
		level = zapcore.DebugLevel
	}
	d.environment = append(d.environment, "LOG_FORMAT=json", "LOG_LEVEL="+level.String(),
		"SERVER_AGENCIES="+strconv.Itoa(options.agencies), "SERVER_PEERS="+strings.Join(peers, ","))
	return d, nil
}

// addrs are the addresses of all servers, as an agency takes them.
func (d *demoServers) addrs() string {
	var all []string
	for _, s := range d.servers {
		all = append(all, s.addr)
	}
	return strings.Join(all, ",")
}

// draw runs the servers and the agencies until all have ended. No process is left when it returns.
func (d *demoServers) draw(ctx context.Context, show *display) error {
	d.say(time.Now(), "%d servers start", len(d.servers))
	all, ctx := errgroup.WithContext(ctx)
	for _, s := range d.servers {
		all.Go(func() error { return d.run(ctx, s) })
	}
	select {
	case <-d.known:
	case <-ctx.Done():
		return all.Wait()
	}
	var served atomic.Int32
	for _, p := range d.participants {
		p.config.Server = d.addrs()
		var before int64
		all.Go(func() error {
			err := p.play(ctx, d.log, d.hold, func(at agency.Progress) {
				show.set(p, at.Stored)
				d.count(at.Stored - before)
				before = at.Stored
			})
			if err == nil && int(served.Add(1)) == len(d.participants) {
				d.say(time.Now(), "all agencies have their winners: %s", d.served())
			}
			return err
		})
	}
	return all.Wait()
}

// served says who has how many winners.
func (d *demoServers) served() string {
	const namesMax = 10
	var words []string
	for _, p := range d.participants {
		words = append(words, fmt.Sprintf("agency %d has %d", p.config.ID, p.run.winners.Count()))
	}
	if len(words) > namesMax {
		words = append(words[:namesMax], "...")
	}
	return strings.Join(words, ", ")
}

// run runs a server to its end: one life, or two if it was killed.
func (d *demoServers) run(ctx context.Context, s *demoServer) error {
	err := d.live(ctx, s)
	d.mu.Lock()
	killed := d.killed == s
	d.mu.Unlock()
	if !killed || ctx.Err() != nil {
		return err
	} // else err is only the kill
	select {
	case <-d.takenOver:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.say(time.Now(), "server %d is started again, with what it has on disk", s.id)
	return d.live(ctx, s)
}

// live runs a server's process to its end.
func (d *demoServers) live(ctx context.Context, s *demoServer) error {
	cmd, err := selfCommand(ctx, "server")
	if err != nil {
		return err
	}
	cmd.Env = slices.Concat(d.environment, s.environment)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	d.mu.Lock()
	err = startChild(cmd)
	s.process, s.follows, s.failure = cmd.Process, false, ""
	d.mu.Unlock()
	if err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for err == nil { // at the end of the output there is nothing to read; why doesn't matter
		var line []byte
		if line, err = lines.ReadBytes('\n'); len(line) > 0 {
			d.hear(s, bytes.TrimSuffix(line, []byte{'\n'}))
		}
	}
	err = cmd.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	code := cmd.ProcessState.ExitCode()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case code >= 0:
		d.timeline.add(time.Now(), "server %d ends with exit code %d", s.id, code)
	}
	if code != exitDone {
		return &childError{s.id, code, cmp.Or(s.failure, cmd.ProcessState.String())}
	}
	return err
}

// lastLeader is the id of the server that led last, as far as it was heard of.
func (d *demoServers) lastLeader() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.successor, d.leader).id
}

// count notes that more bets are stored. Once half of them are, it kills the leader: before it
// returns, so the agency that stored them has not gone on.
func (d *demoServers) count(bets int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stored += bets
	if 2*d.stored >= d.total() {
		d.killLeader()
	}
}

// total is how many bets there are, as far as one can know without parsing them.
func (d *demoServers) total() (bets int64) {
	for _, p := range d.participants {
		bets += p.bets
	}
	return bets
}

// hold is called before an agency reports. If the leader is killed, no agency reports before that
// server is back. Otherwise a fast draw would be over by then.
func (d *demoServers) hold(ctx context.Context) error {
	if !d.options.killLeader {
		return nil
	}
	d.mu.Lock()
	if d.holding++; d.holding == len(d.participants) {
		d.killLeader() // not killed yet if the files have fewer bets than lines
	}
	d.restart()
	d.mu.Unlock()
	select {
	case <-d.back:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killLeader kills the leader if that is wanted, once. The caller holds mu.
func (d *demoServers) killLeader() {
	if !d.options.killLeader || d.killed != nil {
		return
	}
	d.killed = d.leader
	_ = d.killed.process.Kill() // fails only if the process has ended, which run reports
	d.timeline.killed = time.Now()
	d.timeline.add(d.timeline.killed, "server %d, the leader, is killed: %d of %d bets are stored",
		d.killed.id, d.stored, d.total())
}

func (d *demoServers) say(at time.Time, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timeline.add(at, format, args...)
}

// hear logs a line of a server, and notes what the timeline shows.
func (d *demoServers) hear(s *demoServer, text []byte) {
	line, err := parseLogLine(text)
	d.mu.Lock()
	defer d.mu.Unlock()
	process := zap.Int("proceso", s.id)
	if err != nil { // a panic
		s.failure = cmp.Or(s.failure, string(text))
		d.log.Warn("salida", zap.String("result", "fail"), zap.ByteString("texto", text), process)
		return
	}
	if entry := d.log.Check(line.level, line.action); entry != nil {
		entry.Time = line.time
		entry.Write(append(line.fields, process)...)
	}
	switch line.action {
	case "lider":
		d.heardLeader(s, line)
	case "hello":
		d.heardHello(s, line.time, line.number("agencia"), line.number("apuestas"))
	case "sorteo":
		d.timeline.add(line.time, "server %d holds the draw (bets: %d, winners: %d)",
			s.id, line.number("apuestas"), line.number("cant_ganadores"))
	case "exit":
		s.failure = line.text("error")
	}
}

// heardLeader notes that a server knows the leader. The caller holds mu.
func (d *demoServers) heardLeader(s *demoServer, line logLine) {
	term := uint64(line.number("mandato"))
	leader := d.servers[line.number("servidor")-1]
	if at, known := d.elected[term]; known {
		// Servers write their lines some time later.
		m := &d.timeline.moments[at]
		if line.time.Before(m.at) {
			m.at = line.time
		}
	} else {
		d.elected[term] = len(d.timeline.moments)
		d.timeline.addSinceKill(line.time, "server %d is elected to lead (term %d)", leader.id, term)
	}
	switch {
	case d.killed == nil && term > d.term:
		d.leader, d.term = leader, term
	case d.killed != nil && d.successor == nil && d.killed != leader && term > d.term:
		d.successor = leader
		d.restart()
	}
	if s.follows {
		return
	}
	s.follows = true
	if d.killed == s {
		close(d.back)
		d.timeline.add(line.time, "server %d is back, and follows server %d", s.id, leader.id)
	} else if !slices.ContainsFunc(d.servers, func(s *demoServer) bool { return !s.follows }) {
		close(d.known)
	}
}

// heardHello notes that an agency goes on with its upload after the kill. The caller holds mu.
func (d *demoServers) heardHello(s *demoServer, at time.Time, id, stored int64) {
	if d.killed == nil || d.killed == s || d.wentOn || stored >= d.participants[id-1].bets {
		return
	}
	d.wentOn = true
	d.timeline.addSinceKill(at, "the agencies go on with server %d (agency %d first: %d of its bets are stored)",
		s.id, id, stored)
	d.restart()
}

// restart starts the killed server again, once another one leads and agencies go on with their
// uploads, if any has to. The caller holds mu.
func (d *demoServers) restart() {
	if d.successor != nil && (d.wentOn || d.holding == len(d.participants)) && !d.restarted {
		d.restarted = true
		close(d.takenOver)
	}
}

// timeline is what happens in a demo.
type timeline struct {
	began, killed time.Time
	moments       []moment // not ordered
}

type moment struct {
	at        time.Time
	text      string
	sinceKill bool // if there was a kill before, how long ago is worth a word
}

func (t *timeline) add(at time.Time, format string, args ...any) {
	t.moments = append(t.moments, moment{at: at, text: fmt.Sprintf(format, args...)})
}

func (t *timeline) addSinceKill(at time.Time, format string, args ...any) {
	t.add(at, format, args...)
	t.moments[len(t.moments)-1].sinceKill = true
}

// String returns a line for each moment, in their order.
func (t *timeline) String() string {
	var b strings.Builder
	moments := slices.Clone(t.moments)
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	for _, m := range moments {
		fmt.Fprintf(&b, "%6.3f s  %s", m.at.Sub(t.began).Seconds(), m.text)
		if m.sinceKill && !t.killed.IsZero() && m.at.After(t.killed) {
			fmt.Fprintf(&b, ", %d ms after the kill", m.at.Sub(t.killed).Milliseconds())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// logLine is a line of a server's log.
type logLine struct {
	level  zapcore.Level
	time   time.Time
	action string
	fields []zap.Field // the others, in their order
}

// parseLogLine parses a line in the JSON format of a log.
func parseLogLine(text []byte) (line logLine, err error) {
	values := json.NewDecoder(bytes.NewReader(text))
	values.UseNumber()
	if token, err := values.Token(); err != nil || token != json.Delim('{') {
		return line, fmt.Errorf("%w: not a line of a log: %.80q", errDemo, text)
	}
	for values.More() && err == nil {
		var (
			key   json.Token
			value any
		)
		if key, err = values.Token(); err != nil {
			break
		}
		if err = values.Decode(&value); err != nil {
			break
		}
		name, _ := key.(string)
		switch word, _ := value.(string); name {
		case "level":
			line.level, err = zapcore.ParseLevel(word)
		case "time":
			line.time, err = time.Parse(time.RFC3339Nano, word)
		case "action":
			line.action = word
		default:
			line.fields = append(line.fields, fieldOf(name, value))
		}
	}
	return line, err
}

func fieldOf(name string, value any) zap.Field {
	if number, ok := value.(json.Number); ok {
		if n, err := number.Int64(); err == nil {
			return zap.Int64(name, n)
		}
		return zap.Stringer(name, number)
	}
	return zap.Any(name, value)
}

func (l logLine) field(name string) zap.Field {
	for _, f := range l.fields {
		if f.Key == name {
			return f
		}
	}
	return zap.Skip()
}

// number is the value of a field that is a number; 0 if there is none.
func (l logLine) number(name string) int64 { return l.field(name).Integer }

// text is the value of a field that is a string; empty if there is none.
func (l logLine) text(name string) string { return l.field(name).String }

// compareExports says where the servers' bets and winners are. It fails if they differ.
func compareExports(o demoOptions) (string, error) {
	var said strings.Builder
	for _, name := range []string{history.BetsFile, history.WinnersFile} {
		var sums [][]byte
		for id := 1; id <= o.servers; id++ {
			sum, err := sumOf(filepath.Join(o.serverDir(id), name))
			if err != nil {
				return "", err
			}
			if sums = append(sums, sum); !bytes.Equal(sum, sums[0]) {
				return "", fmt.Errorf("%w: %s and %s differ: compare both with `loteria ledger dump`",
					errDemo, filepath.Join(o.serverDir(1), name), filepath.Join(o.serverDir(id), name))
			}
		}
		what := strings.TrimSuffix(name, filepath.Ext(name))
		fmt.Fprintf(&said, "%-8s %s: %d files, identical (SHA-256 %.6x...)\n", what,
			filepath.Join(o.dataDir, "server-*", name), len(sums), sums[0])
	}
	return said.String(), nil
}

func sumOf(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return sum.Sum(nil), errors.Join(err, file.Close())
}
