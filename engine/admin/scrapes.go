package admin

import (
	"net/http"
	"sync"
	"time"
)

// The bounds of the wait for a last scrape. Scrapes every scrapeDueMax or more often are waited for
// always. Of rarer ones those are that are due within it, and the end may fall between the others.
const (
	// scrapeDueMax is how long before a scrape the server may end that waits for it.
	scrapeDueMax = 2 * time.Second
	// scrapeLate is how much later than it is due a scrape may come.
	scrapeLate = time.Second
	// scraperGone is after how long without a scrape none is expected any more.
	scraperGone = 15 * time.Second
)

// scraperHeader is what Prometheus says, and what speaks like it. Others are not waited for: a person
// who reads the metrics doesn't come back for the last ones.
const scraperHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// scrapes serves /metrics, and knows when the next scrape is due. Any goroutine may call its methods.
type scrapes struct {
	metrics http.Handler

	mu       sync.Mutex
	last     time.Time     // when the newest one came; zero: none did
	interval time.Duration // between the newest two; 0: there was none or one
	final    bool          // what is shown doesn't change any more

	seen chan struct{} // closed when a scrape has seen what is final
	see  func()        // closes it, once
}

func newScrapes(metrics http.Handler) *scrapes {
	seen := make(chan struct{})
	return &scrapes{metrics: metrics, seen: seen, see: sync.OnceFunc(func() { close(seen) })}
}

// ServeHTTP implements http.Handler.
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isScraper := r.Method == http.MethodGet && r.Header.Get(scraperHeader) != ""
	isLast := isScraper && s.come(time.Now())
	s.metrics.ServeHTTP(w, r)
	if isLast {
		s.see()
	}
}

// come notes a scrape, and reports whether it will see what is final.
func (s *scrapes) come(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() {
		s.interval = now.Sub(s.last)
	}
	s.last = now
	return s.final
}

// awaitLast waits for a scrape of what is shown now, which is final, if one is due soon. It waits no
// longer than scrapeDueMax and scrapeLate together.
func (s *scrapes) awaitLast() {
	now := time.Now()
	s.mu.Lock()
	s.final = true
	last, interval := s.last, s.interval
	s.mu.Unlock()
	if interval == 0 {
		interval = scrapeDueMax
	}
	if last.IsZero() || now.Sub(last) > scraperGone || last.Add(interval).Sub(now) > scrapeDueMax {
		return
	}
	within(s.seen, min(interval, scrapeDueMax)+scrapeLate)
}
