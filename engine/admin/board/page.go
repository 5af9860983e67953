package board

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The page and its files. The browser gets them as they are: there is no build step.
//
//go:embed page.html board.css board.js
var files embed.FS

// What Write replaces in page.html to have the whole page in one file.
const (
	headMark   = `<meta charset="utf-8">`
	styleMark  = `<link rel="stylesheet" href="board.css">`
	scriptMark = `<script type="module" src="board.js"></script>`
)

// What stands around the state in such a page.
const (
	stateBegin = `<script type="application/json" id="state">`
	stateEnd   = "</script>"
)

// policy is the Content-Security-Policy of the served page: nothing from elsewhere, nothing inline.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at /board/ and its files beneath it, for GET and HEAD. It expects the whole
// path, so mount it without StripPrefix:
//
//	mux.Handle("/board/", board.Handler())
//
// It keeps nothing and never waits, so one Handler serves any number of browsers. The page connects
// to /board/events, which is the caller's to serve: an event stream whose events "state", and the
// final one "bye", carry a [State] as JSON. The page goes on with what "bye" carries, and doesn't
// connect again.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /board/{$}", file("page.html", "text/html; charset=utf-8"))
	mux.Handle("GET /board/board.css", file("board.css", "text/css; charset=utf-8"))
	mux.Handle("GET /board/board.js", file("board.js", "text/javascript; charset=utf-8"))
	return mux
}

// file serves an embedded file. A browser that has it asks with its ETag, so a new version of the
// server is seen at once, and an old one isn't sent again.
func file(name, contentType string) http.Handler {
	content := mustRead(name)
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Type", contentType)
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

// Write writes the page with s in it, as one file that a browser opens from disk. It has everything
// inline, needs no server and connects to nothing. An error is the writer's.
func Write(w io.Writer, s *State) error {
	// Marshal escapes <, > and &, so no text in the state ends the element that holds it.
	state, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("board: %w", err)
	}
	style, script := Style(), string(mustRead("board.js"))
	_, err = strings.NewReplacer(
		headMark, headMark+"\n"+`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; `+
			`style-src `+hash(style)+`; script-src `+hash(script)+`; img-src data:">`,
		styleMark, "<style>"+style+"</style>",
		scriptMark, stateBegin+string(state)+stateEnd+"\n"+
			`<script type="module">`+script+"</script>",
	).WriteString(w, string(mustRead("page.html")))
	if err != nil {
		return fmt.Errorf("board: %w", err)
	}
	return nil
}

// ErrPage says that a page has no state in it.
var ErrPage = errors.New("not a page with the state of a draw")

// Read returns the state in a page that Write has written. Errors wrap ErrPage.
func Read(page []byte) (*State, error) {
	_, rest, _ := bytes.Cut(page, []byte(stateBegin))
	text, _, _ := bytes.Cut(rest, []byte(stateEnd))
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPage, err)
	}
	return s, nil
}

// Style is the page's CSS, for pages that are to look like it.
func Style() string { return string(mustRead("board.css")) }

// hash allows an inline element with that content in a Content-Security-Policy.
func hash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func mustRead(name string) []byte {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return content
}
