package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/admin"
	"loteria/engine/admin/board"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// get asks a server over HTTP, on a connection of its own.
func get(t *testing.T, addr, path string) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	return response.StatusCode, string(all), err
}

func wantReady(t *testing.T, addr string, status int) {
	t.Helper()
	if got, body, err := get(t, addr, "/readyz"); err != nil || got != status {
		t.Errorf("/readyz says %d %q, %v; want %d", got, body, err, status)
	}
}

// shown is the state that a server shows.
func shown(t *testing.T, addr string) (s board.State) {
	t.Helper()
	status, body, err := get(t, addr, "/api/state")
	if err != nil || status != http.StatusOK {
		t.Fatalf("/api/state: %d %q, %v", status, body, err)
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitShown waits until a server shows a state that is so, and returns it.
func awaitShown(t *testing.T, addr, what string, is func(board.State) bool) (s board.State) {
	t.Helper()
	awaitThat(t, what, func() bool {
		s = shown(t, addr)
		return is(s)
	})
	return s
}

// leftBoard is the state in the file that a server leaves.
func leftBoard(t *testing.T, dir string) (s board.State) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(dir, engine.BoardFile))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := bytes.Cut(page, []byte(`id="state">`))
	text, _, _ = bytes.Cut(text, []byte("</script>"))
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatalf("%v: %.200s", err, page)
	}
	return s
}

// wantLikeExports checks that the numbers of a state are those of the exports.
func wantLikeExports(t *testing.T, dir string, s board.State) {
	t.Helper()
	lines := map[string]int64{}
	for _, name := range []string{history.BetsFile, history.WinnersFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		lines[name] = int64(bytes.Count(text, []byte("\n")))
	}
	if s.Bets != lines[history.BetsFile] || int64(s.Winners) != lines[history.WinnersFile] {
		t.Errorf("it shows %d bets and %d winners, and has exported %v", s.Bets, s.Winners, lines)
	}
}

// kinds are those of events, with the agency or server.
func kinds(events []board.Event) (all []string) {
	for _, e := range events {
		all = append(all, strings.TrimSuffix(string(e.Kind)+" "+codec.ListAgencies([]codec.Agency{codec.Agency(e.Agency)}, 1), " 0"))
	}
	return all
}

// A draw as those see it who watch, from before the server listens until it has ended.
func TestWatchedDraw(t *testing.T) {
	cfg := liveConfig(t)
	cfg.HTTPAddr = "127.0.0.1:0"
	opened, err := engine.Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	addr := opened.HTTPAddr().String()
	if status, _, err := get(t, addr, "/healthz"); err != nil || status != http.StatusOK {
		t.Errorf("/healthz: %d, %v", status, err)
	}
	wantReady(t, addr, http.StatusServiceUnavailable)
	if s := shown(t, addr); s.Phase != board.Opening || s.Agencies != 2 || s.Waiting != 2 || s.Cells != "ww" {
		t.Errorf("it opens and shows %+v", s)
	}
	s := &liveServer{Server: opened, ended: make(chan error, 1)}
	go func() { s.ended <- s.Serve(t.Context()) }()
	<-s.Ready()
	wantReady(t, addr, http.StatusOK)
	if s := shown(t, addr); s.Phase != board.Intake || s.Cluster != nil || len(s.Missing) != 2 {
		t.Errorf("it waits and shows %+v", s)
	}

	one, two := s.dial(t), s.dial(t)
	one.say("HELLO|1", betJuan+"\n"+betMaria).hears(welcomed(), "ACK")
	half := awaitShown(t, addr, "a batch", func(s board.State) bool { return s.Bets == 2 })
	want := board.Agency{ID: 1, State: "uploading", Bets: 2}
	if half.Uploading != 1 || half.Waiting != 1 || half.Cells != "uw" || half.PerCell != 1 ||
		half.Missing[0] != want || half.Winners != 0 || half.DrawnAt != nil || half.Connections != 2 {
		t.Errorf("an agency uploads: %+v", half)
	}
	one.say("GET_WINNERS|1")
	half = awaitShown(t, addr, "a report", func(s board.State) bool { return s.Reported == 1 })
	if half.Cells != "rw" || len(half.Missing) != 1 || half.Missing[0].ID != 2 || half.Phase != board.Intake {
		t.Errorf("an agency has reported: %+v", half)
	}
	two.say("HELLO|2", betCarlos, "GET_WINNERS|2").hears(welcomed(), "ACK", betCarlos)
	one.hears(betJuan)
	drawn := awaitShown(t, addr, "the draw", func(s board.State) bool { return s.Phase == board.Drawn })
	if drawn.Reported != 2 || drawn.Winners != 2 || drawn.DrawnAt == nil || len(drawn.Missing) != 2 || drawn.Missing[0].Winners != 1 {
		t.Errorf("the draw: %+v", drawn)
	}
	two.confirms(2)
	awaitShown(t, addr, "winners", func(s board.State) bool { return s.Served == 1 && s.Cells == "rs" })

	_, metrics, err := get(t, addr, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"loteria_bets_stored_total 3", `loteria_agencies{state="served"} 1`} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics lack %q", line)
		}
	}
	if strings.Contains(metrics, "loteria_ledger_commits_total 0") {
		t.Error("no commit is counted")
	}
	if _, all, err := get(t, addr, "/api/agencies"); err != nil || !strings.Contains(all, `"served"`) {
		t.Errorf("/api/agencies: %s, %v", all, err)
	}

	one.confirms(1).close()
	two.close()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if _, _, err := get(t, addr, "/healthz"); err == nil {
		t.Error("something listens behind the end")
	}
	last := leftBoard(t, cfg.DataDir)
	wantLikeExports(t, cfg.DataDir, last)
	sum := int64(0)
	for _, n := range last.Series.Bets {
		sum += n
	}
	events := []string{"started", "reported 1", "reported 2", "draw", "served 2", "served 1", "over"}
	if last.Phase != board.Over || last.Served != 2 || last.Outcome != "" || sum != 3 || !slices.Equal(kinds(last.Events), events) {
		t.Errorf("at last: %+v, events %q", last, kinds(last.Events))
	}

	// Started again, it shows what the ledger has, and none of it as if it happened now.
	again := serveLogging(t, cfg, zap.NewNop(), ledger.Options{})
	state := shown(t, again.HTTPAddr().String())
	if state.Phase != board.Drawn || state.Bets != 3 || state.Served != 2 || state.DrawnAt != nil ||
		len(state.Series.Bets) != 0 || !slices.Equal(kinds(state.Events), []string{"started"}) {
		t.Errorf("started again: %+v", state)
	}
	again.stop()
	if err := again.end(t); err != nil {
		t.Error(err)
	}
}

// slowDisk lets files be written only while nobody holds the gate.
type slowDisk struct {
	ledger.Disk
	gate sync.RWMutex
}

type slowFile struct {
	ledger.File
	disk *slowDisk
}

func (d *slowDisk) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := d.Disk.OpenFile(name, flag)
	return &slowFile{f, d}, err
}

func (f *slowFile) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.gate.RLock()
	defer f.disk.gate.RUnlock()
	return f.File.WriteAt(p, offset)
}

// A server that was told to stop isn't ready any more, and those who watch don't wait for its disk.
// What it can't finish is its outcome.
func TestWatchedStop(t *testing.T) {
	cfg := liveConfig(t)
	cfg.HTTPAddr = "127.0.0.1:0"
	disk := new(slowDisk)
	s := serveLiveOn(t, cfg, ledger.Options{FS: disk})
	addr := s.HTTPAddr().String()
	wantReady(t, addr, http.StatusOK)
	disk.gate.Lock()
	w := s.dial(t).say(betJuan)
	awaitShown(t, addr, "a batch that waits for the disk", func(s board.State) bool { return s.QueueBytes > 0 })
	wantReady(t, addr, http.StatusOK)
	s.stop()
	awaitThat(t, "the server to stop", func() bool {
		status, _, err := get(t, addr, "/readyz")
		return err == nil && status == http.StatusServiceUnavailable
	})
	if bets := shown(t, addr).Bets; bets != 0 {
		t.Errorf("%d bets are shown that aren't stored", bets)
	}
	disk.gate.Unlock()
	w.hears("ACK").close()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if last := leftBoard(t, cfg.DataDir); last.Bets != 1 || last.Phase != board.Over {
		t.Errorf("at last: %+v", last)
	}
}

// A server that ends without its goal says so.
func TestWatchedFailure(t *testing.T) {
	cfg := liveConfig(t)
	cfg.HTTPAddr, cfg.ExitGrace = "127.0.0.1:0", 0
	s := serveLive(t, cfg)
	s.dial(t).say(betJuan).hears("ACK").close()
	err := s.end(t)
	wantUnfinished(t, err, false, 1, 2)
	if last := leftBoard(t, cfg.DataDir); last.Outcome != err.Error() || last.Bets != 1 || last.Uploading != 1 {
		t.Errorf("at last: %+v", last)
	}
}

// Without an address nobody can watch, and nothing of it is there.
func TestNotWatched(t *testing.T) {
	cfg := liveConfig(t)
	s := serveLive(t, cfg)
	stacks := make([]byte, 1<<20)
	if n := runtime.Stack(stacks, true); bytes.Contains(stacks[:n], []byte("loteria/engine/admin")) {
		t.Errorf("a goroutine is there:\n%s", stacks[:n])
	}
	if addr := s.HTTPAddr(); addr != nil {
		t.Errorf("it listens on %v", addr)
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if s.count("tablero", "success") > 0 {
		t.Error("the log says that it can be watched")
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, engine.BoardFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it leaves a board: %v", err)
	}
}

// A server whose HTTP address is in use leaves the file system as it was, and the other address free.
func TestWatchAddressInUse(t *testing.T) {
	user, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	cfg := liveConfig(t)
	cfg.DataDir = filepath.Join(cfg.DataDir, "new")
	cfg.HTTPAddr = user.Addr().String()
	_, err = engine.Open(cfg, zap.NewNop())
	if !errors.Is(err, admin.ErrListen) || !strings.Contains(err.Error(), "SERVER_HTTP_ADDR="+cfg.HTTPAddr) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(cfg.DataDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has made its directory: %v", err)
	}
}

// Each of several servers shows who leads. When the leader stops, those that are left show who takes
// over, and at the end all show what they have exported.
func TestWatchedServers(t *testing.T) {
	t.Parallel()
	const agencies = 2
	s := newServers(t, 3, agencies, func(cfg *engine.Config) {
		host, _, _ := net.SplitHostPort(cfg.Addr)
		cfg.HTTPAddr = net.JoinHostPort(host, "4121")
	})
	addr := func(id int) string { return s.cfgs[id].HTTPAddr }
	awaitLeader := func(ids []int, not uint64) (leader uint64) {
		t.Helper()
		for _, id := range ids {
			state := awaitShown(t, addr(id), "a leader", func(s board.State) bool {
				return s.Phase == board.Intake && s.Cluster.Leader != not && (leader == 0 || s.Cluster.Leader == leader)
			})
			leader = state.Cluster.Leader
			is := func(e board.Event) bool {
				return e.Kind == board.EventLeader && e.Server == leader && e.Term == state.Cluster.Term
			}
			if len(state.Cluster.Servers) != 3 || !slices.ContainsFunc(state.Events, is) {
				t.Errorf("server %d shows %+v, events %+v", id, state.Cluster, state.Events)
			}
			wantReady(t, addr(id), http.StatusOK)
		}
		return leader
	}
	first := awaitLeader([]int{1, 2, 3}, 0)
	done := make(chan error, agencies)
	play := func(id int) {
		go func() { done <- engine.Play(t.Context(), s.addrs(), codec.Agency(id), 400, 20) }()
	}
	play(1)
	for id := 1; id <= 3; id++ {
		awaitShown(t, addr(id), "a report", func(s board.State) bool { return s.Reported == 1 && s.Bets == 400 })
	}
	leads := shown(t, addr(int(first))).Cluster
	for _, server := range leads.Servers {
		if server.Behind == nil || !server.Connected || !server.Votes {
			t.Errorf("the leader shows of server %d: %+v", server.ID, server)
		}
	}

	s.halt(int(first))
	var left []int
	for id := 1; id <= 3; id++ {
		if id != int(first) {
			left = append(left, id)
		}
	}
	awaitLeader(left, first)
	s.start(int(first))
	awaitShown(t, addr(int(first)), "what it has missed", func(s board.State) bool { return s.Reported == 1 && s.Bets == 400 })
	play(2)
	for range agencies {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	s.wantEnd()
	for id := 1; id <= 3; id++ {
		last := leftBoard(t, s.cfgs[id].DataDir)
		wantLikeExports(t, s.cfgs[id].DataDir, last)
		if last.Phase != board.Over || last.Outcome != "" || last.Reported+last.Served != agencies || last.Time.After(time.Now()) {
			t.Errorf("server %d at last: %+v", id, last)
		}
	}
}
