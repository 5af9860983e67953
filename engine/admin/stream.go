package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"loteria/engine/admin/board"
)

const (
	// browsersMax is how many may watch the board at once.
	browsersMax = 64
	// framePeriod is the least time between two frames.
	framePeriod = 250 * time.Millisecond
	// heartbeatPeriod is after how long without a frame a browser is told that there is none. That
	// finds the browsers that are gone, and keeps proxies from hanging up.
	heartbeatPeriod = 15 * time.Second
)

var errBrowsers = errors.New("too many browsers watch the board")

// stream gives all browsers the newest state. It encodes a state once, however many watch, and looks
// for a new one only while somebody does. Any goroutine may call its methods.
type stream struct {
	state        func() *board.State // the newest one, nil if there is none
	writeTimeout time.Duration       // for an event

	mu       sync.Mutex
	encoded  *board.State // what text is of
	text     string
	browsers int
	frame    *frame // the newest
	ticking  *time.Timer
	ended    bool // frame is the last
}

// frame is an event, but for the first one of a stream, which is none. Only replaced ever changes:
// it is closed when there is a newer frame. So what a slow browser costs is the frame that it is
// being sent.
type frame struct {
	event    string
	state    *board.State
	text     string // state as JSON
	replaced chan struct{}
}

// The events of the board.
const (
	eventState = "state"
	eventBye   = "bye" // the last one
)

func newStream(state func() *board.State, writeTimeout time.Duration) *stream {
	return &stream{state: state, writeTimeout: writeTimeout, text: "null", frame: &frame{replaced: make(chan struct{})}}
}

// newest is the JSON of the newest state.
func (s *stream) newest() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encode(s.state())
}

// encode returns the JSON of a state. The caller holds mu.
func (s *stream) encode(state *board.State) (string, error) {
	if state == s.encoded {
		return s.text, nil
	}
	text, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	s.encoded, s.text = state, string(text)
	return s.text, nil
}

// join counts a browser, which has to leave. If there is no room, it returns errBrowsers.
func (s *stream) join() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.browsers == browsersMax {
		return errBrowsers
	}
	s.browsers++
	if s.ticking == nil {
		s.look()
	}
	return nil
}

func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers--
}

// tick looks for a new state, as long as somebody watches.
func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticking = nil
	if s.browsers > 0 {
		s.look()
	}
}

// look replaces the frame if there is a new state, and looks again later. The caller holds mu.
func (s *stream) look() {
	if s.ended {
		return
	}
	s.ticking = time.AfterFunc(framePeriod, s.tick)
	state := s.state()
	if state == nil || state == s.frame.state {
		return
	}
	// A state that can't be encoded is like one that a slow browser misses. /api/state says why.
	if text, err := s.encode(state); err == nil {
		s.replace(&frame{event: eventState, state: state, text: text})
	}
}

func (s *stream) replace(f *frame) {
	f.replaced = make(chan struct{})
	close(s.frame.replaced)
	s.frame = f
}

// end makes last the last frame, the newest state if last is nil. There is no frame after it.
func (s *stream) end(last *board.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last == nil {
		last = s.state()
	}
	text, err := s.encode(last)
	if err != nil {
		text, err = "null", fmt.Errorf("the board's last state: %w", err)
	}
	s.replace(&frame{event: eventBye, state: last, text: text})
	s.ended = true
	if s.ticking != nil {
		s.ticking.Stop()
	}
	return err
}

func (s *stream) current() *frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frame
}

// ServeHTTP serves events until the last one, or until the browser is gone or doesn't read.
func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.join(); err != nil {
		http.Error(w, err.Error()+": close one of them and reload", http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	// send fails if the browser is gone, or doesn't take it in time. Then there is nothing to do.
	send := func(parts ...string) error {
		if err := control.SetWriteDeadline(time.Now().Add(s.writeTimeout)); err != nil {
			return err
		}
		for _, part := range parts {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return control.Flush()
	}
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	f := s.current()
	err := send(":\n\n") // the browser knows at once that it is connected
	for {
		if err == nil && f.event != "" {
			err = send("event: ", f.event, "\ndata: ", f.text, "\n\n")
		}
		if err != nil || f.event == eventBye {
			return
		}
		heartbeat.Reset(heartbeatPeriod)
		for f == s.current() {
			select {
			case <-f.replaced:
			case <-heartbeat.C:
				err = send(":\n\n")
			case <-r.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
		f = s.current()
	}
}
