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

// acknowledgedPeriod is how often a relay looks whether an agency's system has acknowledged the rest of
// its answers. Systems don't say so by themselves.
const acknowledgedPeriod = 10 * time.Millisecond

// reporter reports of one agency's connection. Its goroutine is watch; other methods may be called
// beside it.
type reporter struct {
	stream net.Conn
	socket net.Conn      // the agency's, below TLS
	wake   chan struct{} // holds one: passed has grown
	passed atomic.Uint64 // bytes of answers that were given to the socket

	mu           sync.Mutex // guards what follows, and writing to the stream, which may take long
	acknowledged uint64     // of passed, as it was reported last
}

// pass gives the agency some of its answers. It doesn't wait for the leader, who may wait for the agency
// to take them.
func (r *reporter) pass(to io.Writer, answers []byte) error {
	_, err := to.Write(answers)
	r.passed.Add(uint64(len(answers)))
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return err
}

// said reports what the agency has said: b behind saidHeadBytes. Who asks on has its answers, so their
// acknowledgement comes first.
func (r *reporter) said(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.acknowledge(); err != nil {
		return err
	}
	b[0] = reportSaid
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-saidHeadBytes))
	_, err := r.stream.Write(b)
	return err
}

// ended reports that the agency has ended.
func (r *reporter) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.acknowledge(); err != nil {
		return err
	}
	_, err := r.stream.Write([]byte{reportEnded})
	return err
}

// acknowledge reports how much the agency's system has acknowledged, if that is more than before and
// all that was passed on. whole says that it is all.
func (r *reporter) acknowledge() (whole bool, err error) {
	passed := r.passed.Load() // before the question, or what comes in between passes for acknowledged
	if passed == r.acknowledged {
		return true, nil
	}
	if left, err := unacknowledged(r.socket); left > 0 || err != nil {
		return false, err
	}
	r.acknowledged = passed
	_, err = r.stream.Write(binary.BigEndian.AppendUint64([]byte{reportAcknowledged}, r.acknowledged))
	return true, err
}

// watch reports acknowledgements until over is closed. The error says that the connection has broken.
func (r *reporter) watch(over <-chan struct{}) error {
	period := time.NewTicker(acknowledgedPeriod)
	defer period.Stop()
	for {
		period.Stop()
		select {
		case <-r.wake:
		case <-over:
			return nil
		}
		period.Reset(acknowledgedPeriod)
		for whole := false; !whole; {
			r.mu.Lock()
			var err error
			whole, err = r.acknowledge()
			r.mu.Unlock()
			switch {
			case err != nil:
				return err
			case whole:
				continue
			}
			select {
			case <-period.C:
			case <-over:
				return nil
			}
		}
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
