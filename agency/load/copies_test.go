package load_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"loteria/agency/load"
)

// memoryLog keeps groups in memory. It holds each back until hold receives, if it isn't nil.
type memoryLog struct {
	bytes.Buffer
	groups int
	hold   chan struct{}
	err    error
}

func (l *memoryLog) Commit(pieces [][]byte) error {
	if l.hold != nil {
		<-l.hold
	}
	for _, p := range pieces {
		l.Write(p)
	}
	l.groups++
	return l.err
}

// copyTo runs a copy in the background, and returns a connection to it and its end.
func copyTo(t *testing.T, log load.Log) (net.Conn, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- load.ServeCopy(t.Context(), l, log) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn, ended
}

// A group is durable when a majority has it, and in the end all files are the same.
func TestCopies(t *testing.T) {
	own, quick, slow := new(memoryLog), new(memoryLog), &memoryLog{hold: make(chan struct{})}
	toQuick, quickEnded := copyTo(t, quick)
	toSlow, slowEnded := copyTo(t, slow)
	c := load.NewCopies(t.Context(), own, []net.Conn{toQuick, toSlow})
	for range 10 {
		if err := c.Commit([][]byte{[]byte("one,"), []byte(strings.Repeat("x", 1000))}); err != nil {
			t.Fatal(err)
		}
	}
	close(slow.hold)
	if err := errors.Join(c.Close(), <-quickEnded, <-slowEnded); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*memoryLog{own, quick, slow} {
		if l.groups != 10 || l.String() != strings.Repeat("one,"+strings.Repeat("x", 1000), 10) {
			t.Errorf("%d groups, %d bytes", l.groups, l.Len())
		}
	}
}

// A copy that fails ends the whole yardstick.
func TestCopyFails(t *testing.T) {
	errFull := errors.New("full")
	conn, ended := copyTo(t, &memoryLog{err: errFull})
	c := load.NewCopies(t.Context(), new(memoryLog), []net.Conn{conn})
	err := c.Commit([][]byte{[]byte("x")})
	for err == nil { // its answer may have left before its error
		err = c.Commit([][]byte{[]byte("x")})
	}
	if err := <-ended; !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := c.Close(); err == nil {
		t.Error("nothing has failed")
	}
}

// A context that is done ends both sides.
func TestCopiesAreStopped(t *testing.T) {
	conn, ended := copyTo(t, new(memoryLog))
	ctx, cancel := context.WithCancel(t.Context())
	c := load.NewCopies(ctx, new(memoryLog), []net.Conn{conn})
	cancel()
	for err := error(nil); err == nil; {
		err = c.Commit(nil)
	}
	if err := <-ended; err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if err := c.Close(); err == nil {
		t.Error("nothing has failed")
	}
}
