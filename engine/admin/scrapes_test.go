package admin

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loteria/engine/admin/board"
)

// scrape asks for the metrics with a header, and returns them.
func scrape(t *testing.T, conn net.Conn, header string) string {
	t.Helper()
	request := "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + "\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Error(err)
	}
	_, text := until(conn)
	return text
}

// The end of a draw waits for a scrape that is due soon, and for nothing else.
func TestCloseAwaitsLastScrape(t *testing.T) {
	const (
		scraper = scraperHeader + ": 1\r\n"
		s, ms   = time.Second, time.Millisecond
	)
	for name, c := range map[string]struct {
		every  []time.Duration // from one scrape to the next, and from the last one to the end
		header string
		next   time.Duration // from the end to the next scrape; 0: none comes
		before bool          // the server ends before the draw
		took   time.Duration
	}{
		"nobody":                  {took: 0},
		"a second":                {every: []time.Duration{s, 300 * ms}, header: scraper, next: 700 * ms, took: 700 * ms},
		"late":                    {every: []time.Duration{s, 300 * ms}, header: scraper, next: s + 400*ms, took: s + 400*ms},
		"missed one":              {every: []time.Duration{s, 2 * s}, header: scraper, next: s, took: s},
		"the longest":             {every: []time.Duration{scrapeDueMax, ms}, header: scraper, next: scrapeDueMax - ms, took: scrapeDueMax - ms},
		"only one":                {every: []time.Duration{100 * ms}, header: scraper, next: 900 * ms, took: 900 * ms},
		"comes no more":           {every: []time.Duration{s, 300 * ms}, header: scraper, took: s + scrapeLate},
		"came once":               {every: []time.Duration{300 * ms}, header: scraper, took: scrapeDueMax + scrapeLate},
		"rare, and due":           {every: []time.Duration{15 * s, 14 * s}, header: scraper, next: s, took: s},
		"rare, due, and doesn't":  {every: []time.Duration{15 * s, 14 * s}, header: scraper, took: scrapeDueMax + scrapeLate},
		"rare":                    {every: []time.Duration{15 * s, s}, header: scraper, took: 0},
		"gone":                    {every: []time.Duration{s, scraperGone + ms}, header: scraper, took: 0},
		"a person":                {every: []time.Duration{s, 300 * ms}, took: 0},
		"the server ends earlier": {every: []time.Duration{s, 300 * ms}, header: scraper, before: true, took: 0},
	} {
		t.Run(name, func(t *testing.T) {
			piped(t, func(t *testing.T, a *Server, src *fakeSource, dial func() net.Conn) {
				for _, wait := range c.every {
					if text := scrape(t, dial(), c.header); !strings.Contains(text, `loteria_agencies{state="waiting"} 1`) {
						t.Errorf("during the draw: %s", text)
					}
					time.Sleep(wait)
				}
				last := &board.State{Phase: board.Over, Agencies: 4, Served: 4}
				if c.before {
					last.Served, last.Uploading = 3, 1
				}
				src.state.Store(last)
				browser := dial()
				if _, err := browser.Write([]byte("GET /board/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				byes, scraped := make(chan time.Duration, 1), make(chan string, 1)
				go func() {
					took, text := until(browser)
					if !strings.Contains(text, "event: bye") {
						t.Errorf("the browser hears %q", text)
					}
					byes <- took
				}()
				synctest.Wait() // it watches
				began := time.Now()
				if c.next > 0 {
					conn := dial()
					go func() {
						time.Sleep(c.next)
						scraped <- scrape(t, conn, c.header)
					}()
				}
				if err := a.Close(last); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if took := <-byes; took != 0 {
					t.Errorf("the browser hears the end after %v", took)
				}
				if c.next > 0 {
					if text := <-scraped; !strings.Contains(text, `loteria_agencies{state="served"} 4`) {
						t.Errorf("the last scrape sees %q", text)
					}
				}
			})
		})
	}
}

// A scrape that began before the end may have read what was before it.
func TestScrapeDuringTheEndIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := make(chan struct{})
		s := newScrapes(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-served }))
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set(scraperHeader, "1")
		ended := make(chan struct{})
		began := time.Now()
		go s.ServeHTTP(httptest.NewRecorder(), r)
		synctest.Wait()
		go func() {
			defer close(ended)
			s.awaitLast()
		}()
		synctest.Wait()
		served <- struct{}{}
		synctest.Wait()
		select {
		case <-ended:
			t.Error("it doesn't wait for the next scrape")
		default:
		}
		go s.ServeHTTP(httptest.NewRecorder(), r)
		served <- struct{}{}
		if <-ended; !time.Now().Equal(began) {
			t.Errorf("it waits for %v", time.Since(began))
		}
	})
}
