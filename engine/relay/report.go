package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What the relay reports of an agency, behind a stream's head, as kind and value:
//
//	said          2 bytes n, and n bytes that the agency has said
//	acknowledged  8 bytes: how many bytes of its answers the agency's system has acknowledged so far
//	ended         the agency has said that it will say nothing more
//
// A stream that ends is that of a connection that is no more. Unless the agency had ended, it was cut
// off: a relay that is killed reports nothing. The answers come back as they are.
const (
	reportSaid         = 's'
	reportAcknowledged = 'a'
	reportEnded        = 'e'
)

const (
	// saidHeadBytes is how much room reporter.said needs before what the agency has said.
	saidHeadBytes = 1 + 2
	// saidBytesMax is the most that one report has of what an agency says.
	saidBytesMax = copyBytes
)

// A relay looks what an agency's system has acknowledged, because that doesn't say so by itself: at first
// after lookMin, and then less and less often, until after lookMax. While nothing is owed to an agency
// that has ended its side, it looks every deadPeriod whether it is still there: nobody reads from it.
const (
	lookMin    = 5 * time.Millisecond
	lookMax    = 100 * time.Millisecond
	deadPeriod = time.Second
)

// errGone says that an agency's connection has broken.
var errGone = errors.New("the agency's connection has broken")

// reporter reports of one agency's connection. Its goroutine is watch; other methods may be called
// beside it.
type reporter struct {
	stream net.Conn
	taken  *takenBytes
	wake   chan struct{} // holds one: passed has grown, or the agency has ended
	passed atomic.Uint64 // bytes of answers that were given to the socket
	shut   atomic.Bool   // nothing more will be given to it

	mu           sync.Mutex // guards what follows, and writing to the stream, which may take long
	acknowledged uint64     // of passed, as it was reported last
	hasEnded     bool       // it was reported
	broken       error      // nothing more is reported
}

// newReporter makes a reporter of a connection over socket, which is the connection itself unless it is
// over TLS. Nobody may write to it meanwhile.
func newReporter(stream, conn, socket net.Conn) *reporter {
	return &reporter{stream: stream, taken: newTakenBytes(socket, conn != socket), wake: make(chan struct{}, 1)}
}

// pass gives the agency some of its answers. It doesn't wait for the leader, who may wait for the agency
// to take them.
func (r *reporter) pass(to io.Writer, answers []byte) error {
	n, err := to.Write(answers)
	r.passed.Add(uint64(n))
	if err == nil {
		r.hurry()
	}
	return err
}

func (r *reporter) hurry() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// said reports what the agency has said: b behind saidHeadBytes. Who asks on has its answers, so their
// acknowledgement comes first.
func (r *reporter) said(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passed.Load() != r.acknowledged {
		_, _ = r.acknowledge() // an error stays in broken
	}
	b[0] = reportSaid
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-saidHeadBytes))
	return r.write(b)
}

// ended reports that the agency has ended.
func (r *reporter) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.acknowledge() // an error stays in broken
	err := r.write([]byte{reportEnded})
	r.hasEnded = true
	r.hurry()
	return err
}

func (r *reporter) write(report []byte) error {
	if r.broken == nil {
		_, r.broken = r.stream.Write(report)
	}
	return r.broken
}

// acknowledge reports how much the agency's system has acknowledged, if that is more than before. whole
// says that it is all.
func (r *reporter) acknowledge() (whole bool, err error) {
	passed := r.passed.Load() // before the question, or what comes in between passes for acknowledged
	taken, gone := r.taken.of(passed)
	if taken > r.acknowledged && r.write(binary.BigEndian.AppendUint64([]byte{reportAcknowledged}, taken)) == nil {
		r.acknowledged = taken
	}
	// A connection is also gone when both sides have ended, and all is acknowledged.
	if gone && (taken < passed || !r.shut.Load()) && r.broken == nil {
		r.broken = errGone
	}
	return taken == passed, r.broken
}

// look is acknowledge for who doesn't write. wait is how long to wait for the next one at most, if
// nothing happens: less if something is owed to the agency, or for ever, which is 0.
func (r *reporter) look(before time.Duration) (wait time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole, err := r.acknowledge()
	switch {
	case !whole:
		return min(2*before, lookMax), err
	case r.hasEnded:
		return deadPeriod, err
	}
	return 0, err
}

// watch reports acknowledgements until over is closed. The error says that the connection has broken.
func (r *reporter) watch(over <-chan struct{}) error {
	wait := lookMax
	next := time.NewTimer(wait)
	defer next.Stop()
	for {
		select {
		case <-over:
			return nil
		case <-r.wake:
			wait = lookMin / 2
		case <-next.C:
		}
		var err error
		if wait, err = r.look(wait); err != nil {
			return err
		}
		next.Stop()
		if wait > 0 {
			next.Reset(wait)
		}
	}
}

// finish reports what is acknowledged when nothing more is said or answered, for a while.
func (r *reporter) finish(while time.Duration) {
	late := time.NewTimer(while)
	defer late.Stop()
	for wait := lookMin; ; {
		r.mu.Lock()
		whole, err := r.acknowledge()
		r.mu.Unlock()
		if whole || err != nil {
			return
		}
		select {
		case <-time.After(wait):
		case <-late.C:
			return
		}
		wait = min(2*wait, lookMax)
	}
}

// errReport says that a stream has something that no relay says.
var errReport = errors.New("no report of an agency")

// readReport reads a report. What was said isn't read yet: it is the next size bytes.
func readReport(in *bufio.Reader) (kind byte, size int, acknowledged uint64, err error) {
	if kind, err = in.ReadByte(); err != nil {
		return 0, 0, 0, err
	}
	var b [8]byte
	switch kind {
	case reportSaid:
		_, err = io.ReadFull(in, b[:2])
		size = int(binary.BigEndian.Uint16(b[:]))
		if err == nil && (size == 0 || size > saidBytesMax) {
			err = fmt.Errorf("%w: %d bytes that it has said", errReport, size)
		}
	case reportAcknowledged:
		_, err = io.ReadFull(in, b[:])
		acknowledged = binary.BigEndian.Uint64(b[:])
	case reportEnded:
	default:
		err = fmt.Errorf("%w: kind %d", errReport, kind)
	}
	if errors.Is(err, io.EOF) { // in the middle
		err = io.ErrUnexpectedEOF
	}
	return kind, size, acknowledged, err
}
