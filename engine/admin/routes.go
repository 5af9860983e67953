package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"
	"strings"
	"time"

	"loteria/engine/admin/board"
)

// agenciesMax bounds an answer of /api/agencies.
const agenciesMax = 1024

// policy lets pages load only what this server has.
const policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var (
	errOpening = errors.New("the server is opening: try again in a moment")
	errQuery   = errors.New("legal are missing=0 or 1, and limit=1 to " + strconv.Itoa(agenciesMax))
)

func (a *Server) routes(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/{$}", http.RedirectHandler("/board/", http.StatusFound))
	mux.Handle("/board/", board.Handler())
	mux.Handle("/board/events", a.stream)
	mux.HandleFunc("/api/state", a.serveState)
	mux.HandleFunc("/api/agencies", a.serveAgencies)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, "ok") })
	mux.HandleFunc("/readyz", a.serveReady)
	mux.Handle("/metrics", a.scrapes)
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			header.Set("Allow", "GET, HEAD")
			refuse(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		case r.ContentLength != 0:
			refuse(w, "a request has no body here", http.StatusRequestEntityTooLarge)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// refuse answers, and closes the connection without waiting for a body. net/http would read 256 kB
// of it, however long that takes.
func refuse(w http.ResponseWriter, why string, status int) {
	w.Header().Set("Connection", "close")
	if err := http.NewResponseController(w).SetReadDeadline(time.Now()); err != nil {
		return // the connection is broken
	}
	http.Error(w, why, status)
}

// say answers with one line. If that fails the peer is gone.
func say(w http.ResponseWriter, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, line+"\n")
}

func (a *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	err := errOpening
	if src := a.source.Load(); src != nil {
		err = (*src).Ready()
	}
	if err != nil {
		http.Error(w, strings.Join(strings.Fields(err.Error()), " "), http.StatusServiceUnavailable)
		return
	}
	say(w, "ok")
}

// state is the newest state, nil if there is none yet.
func (a *Server) state() *board.State {
	if src := a.source.Load(); src != nil {
		return (*src).State()
	}
	return nil
}

// sample is what a scrape reads.
func (a *Server) sample() (sample, bool) {
	state := a.state()
	if state == nil {
		return sample{}, false
	}
	s := sample{state: state, counters: (*a.source.Load()).Counters()}
	s.counters.LinesSuppressed += a.suppressed.Load()
	return s, true
}

func (a *Server) serveState(w http.ResponseWriter, _ *http.Request) {
	if a.state() == nil {
		http.Error(w, errOpening.Error(), http.StatusServiceUnavailable)
		return
	}
	text, err := a.stream.newest()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text) // if that fails the peer is gone
}

// agencies is the JSON of /api/agencies.
type agencies struct {
	Agencies []board.Agency `json:"agencies"` // in order of their ids
	More     bool           `json:"more"`     // there are others, beyond the limit
}

func (a *Server) serveAgencies(w http.ResponseWriter, r *http.Request) {
	missing, limit, err := parseAgencies(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	state := a.state()
	if state == nil {
		http.Error(w, errOpening.Error(), http.StatusServiceUnavailable)
		return
	}
	// The draw takes place when all have reported. After it, those without their winners are missing.
	drawn := state.Waiting+state.Uploading == 0
	answer := agencies{Agencies: []board.Agency{}}
	(*a.source.Load()).Agencies(func(agency board.Agency) bool {
		if missing && (agency.State == "served" || agency.State == "reported" && !drawn) {
			return true
		}
		if answer.More = len(answer.Agencies) == limit; answer.More {
			return false
		}
		answer.Agencies = append(answer.Agencies, agency)
		return true
	})
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // if that fails the peer is gone
}

// parseAgencies reads the query of /api/agencies. Errors wrap errQuery.
func parseAgencies(query string) (missing bool, limit int, err error) {
	limit = agenciesMax
	values, err := url.ParseQuery(query)
	if err != nil {
		return false, 0, fmt.Errorf("%w: the query can't be read", errQuery)
	}
	for key, all := range values {
		value := all[0]
		switch {
		case len(all) == 1 && key == "missing" && (value == "0" || value == "1"):
			missing = value == "1"
		case len(all) == 1 && key == "limit":
			if limit, err = strconv.Atoi(value); err == nil && 1 <= limit && limit <= agenciesMax {
				continue
			}
			fallthrough
		default:
			return false, 0, fmt.Errorf("%w: not %.32q", errQuery, key+"="+value)
		}
	}
	return missing, limit, nil
}
