package board_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"loteria/engine/admin/board"
)

// source is a server with a board, whose states the test makes up.
type source struct {
	*httptest.Server
	mutex   sync.Mutex
	last    string // the newest event, as it goes over the wire
	streams map[chan string]bool
	refuse  bool // new streams are refused
}

// eventsMax is how many events a stream may be behind in a test.
const eventsMax = 64

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{streams: map[chan string]bool{}}
	mux := http.NewServeMux()
	mux.Handle("/board/", board.Handler())
	mux.HandleFunc("GET /board/events", s.stream)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.cut(true)
		s.Close()
	})
	return s
}

func (s *source) stream(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, eventsMax)
	s.mutex.Lock()
	if s.refuse {
		s.mutex.Unlock()
		http.Error(w, "no more streams", http.StatusServiceUnavailable)
		return
	}
	s.streams[events] = true
	events <- s.last
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		delete(s.streams, events)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		select {
		case <-r.Context().Done():
			return
		case event, ok := <-events:
			if !ok {
				return
			}
			if _, err := w.Write([]byte(event)); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return
			}
		}
	}
}

// send sends an event to all streams, and to those that come later.
func (s *source) send(event string, state *board.State) {
	data, err := json.Marshal(state)
	if err != nil {
		panic(err) // a State always can
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.last = fmt.Sprintf("event: %s\ndata: %s\n\n", event, data)
	for events := range s.streams {
		events <- s.last
	}
}

// cut ends all streams, and refuses new ones or takes them again.
func (s *source) cut(refuse bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.refuse = refuse
	for events := range s.streams {
		close(events)
		delete(s.streams, events)
	}
}

// open is how many streams there are.
func (s *source) open() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.streams)
}

// at is when the made-up draws take place.
var at = time.Date(2026, 11, 29, 14, 3, 20, 0, time.Local)

// intake is a draw of n agencies of which a part has reported.
func intake(n int) *board.State {
	s := &board.State{
		Time: at.Add(2600 * time.Millisecond), Started: at, Phase: board.Intake,
		Agencies: n, Waiting: n / 5, Uploading: 2 * n / 5, Bets: int64(9500 * n), PerCell: 1,
		Connections: 2 * n, QueueBytes: 3 << 20, QueueLimitBytes: 64 << 20,
		Series: board.Series{Start: at.Add(200 * time.Millisecond), Step: 20},
		Events: []board.Event{{Time: at, Kind: board.EventStarted}},
	}
	s.Reported = n - s.Waiting - s.Uploading
	cells := make([]byte, n)
	for i := range cells {
		id := uint32(i + 1)
		switch i % 5 {
		case 1:
			cells[i] = board.CellWaiting
			s.Missing = append(s.Missing, board.Agency{ID: id, State: "waiting"})
		case 0, 3:
			cells[i] = board.CellUploading
			s.Missing = append(s.Missing, board.Agency{ID: id, State: "uploading", Bets: int64(7000 + 13*i)})
		default:
			cells[i] = board.CellReported
			s.Events = append(s.Events, board.Event{Time: at.Add(time.Duration(900+400*i/max(1, n/5)) * time.Millisecond), Kind: board.EventReported, Agency: id})
		}
	}
	s.Cells = string(cells)
	s.Missing = s.Missing[:min(len(s.Missing), board.MissingMax)]
	s.Events = s.Events[max(0, len(s.Events)-board.EventsMax):]
	const steps = 120
	for i := range steps {
		part := int64(n) * 9500 / steps
		s.Series.Bets = append(s.Series.Bets, part*int64(min(i, 20))/20*int64(85+(i*i*7)%31)/100)
	}
	return s
}

// opening is a draw of which nothing is known yet: the server replays its ledger.
func opening(n int) *board.State {
	s := &board.State{Time: at, Started: at, Phase: board.Opening, Agencies: n, Waiting: n, PerCell: 1,
		Cells: strings.Repeat(string(board.CellWaiting), n), QueueLimitBytes: 64 << 20,
		Events: []board.Event{{Time: at, Kind: board.EventStarted}}}
	for id := range uint32(min(n, board.MissingMax)) {
		s.Missing = append(s.Missing, board.Agency{ID: id + 1, State: "waiting"})
	}
	return s
}

// failed is a server whose disk is full, before the draw.
func failed(n int) *board.State {
	s := intake(n)
	s.Phase, s.Bets = board.Over, s.Bets+3
	s.Outcome = "cannot store bets: write /var/lib/loteria/data/00000000000000000003.log: no space left on device"
	s.Events = append(s.Events, board.Event{Time: s.Time, Kind: board.EventOver})
	return s
}

// drawn is the draw after intake, of which a part of the agencies has the winners.
func drawn(n int) *board.State {
	s := intake(n)
	when := at.Add(2700 * time.Millisecond)
	s.Time, s.Phase, s.DrawnAt, s.Winners = at.Add(2900*time.Millisecond), board.Drawn, &when, 2*n
	s.Bets = int64(15739*n + 2)
	for i := range s.Series.Bets {
		s.Series.Bets[i] = s.Series.Bets[i] * 180 / 100 // all of them came in the same time
	}
	s.Waiting, s.Uploading, s.Served = 0, 0, 3*n/5
	s.Reported = n - s.Served
	cells, missing := []byte(s.Cells), s.Missing[:0:0]
	for i := range cells {
		cells[i] = board.CellServed
		if i%5 < 2 {
			cells[i] = board.CellReported
			missing = append(missing, board.Agency{ID: uint32(i + 1), State: "reported", Bets: int64(15000 + 7*i), Winners: 2})
		}
	}
	s.Cells, s.Missing = string(cells), missing[:min(len(missing), board.MissingMax)]
	for i, id := range []uint32{1, 4, 2} {
		s.Events = append(s.Events, board.Event{Time: when.Add(time.Duration(i-2) * 31 * time.Millisecond), Kind: board.EventReported, Agency: id})
	}
	s.Events = append(s.Events, board.Event{Time: when, Kind: board.EventDraw})
	for i, id := range []uint32{3, 5, 4} {
		s.Events = append(s.Events, board.Event{Time: when.Add(time.Duration(i+1) * 23 * time.Millisecond), Kind: board.EventServed, Agency: id})
	}
	s.Events = s.Events[max(0, len(s.Events)-board.EventsMax):]
	return s
}

// over is the end of a draw: every agency has its winners.
func over(n int) *board.State {
	s := drawn(n)
	s.Phase, s.Time, s.Reported, s.Served, s.Missing = board.Over, at.Add(3100*time.Millisecond), 0, n, nil
	s.Cells = strings.Repeat(string(board.CellServed), n)
	s.Bets++
	s.Events = append(s.Events, board.Event{Time: s.Time, Kind: board.EventOver})
	return s
}

// leaderless is a draw of three servers and a learner, whose leader was lost.
func leaderless(n int) *board.State {
	s := intake(n)
	s.Phase = board.Opening
	s.Bets++
	s.Cluster = &board.Cluster{Server: 2, Term: 3, Committed: 41873, Servers: []board.ClusterServer{
		{ID: 1, Addr: "servidor-1.loteria.example:7001", Votes: true},
		{ID: 2, Addr: "servidor-2.loteria.example:7001", Votes: true, Connected: true},
		{ID: 3, Addr: "servidor-3.loteria.example:7001", Votes: true, Connected: true},
		{ID: 4, Addr: "servidor-4.loteria.example:7001", Connected: true},
	}}
	s.Events = append(s.Events, board.Event{Time: at.Add(2100 * time.Millisecond), Kind: board.EventLost})
	return s
}

// led is the same draw after another server took over.
func led(n int) *board.State {
	s := leaderless(n)
	s.Phase = board.Intake
	s.Bets++
	s.Cluster.Leader, s.Cluster.Term = 2, 4
	for i, behind := range []uint64{1204, 0, 0, 37} {
		s.Cluster.Servers[i].Behind = &behind
	}
	s.Events = append(s.Events, board.Event{Time: at.Add(2530 * time.Millisecond), Kind: board.EventLeader, Server: 2, Term: 4})
	return s
}
