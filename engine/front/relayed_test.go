package front

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front/fronttest"
	"loteria/engine/lottery"
)

// fakeRelayed is an agency behind another server, which takes what the test says.
type fakeRelayed struct {
	acknowledged int64
	cut          error
	ended        bool
}

func (f *fakeRelayed) Socket() net.Conn             { return nil }
func (f *fakeRelayed) Agency() codec.Agency         { return 0 }
func (f *fakeRelayed) Acknowledged() (int64, error) { return f.acknowledged, f.cut }
func (f *fakeRelayed) Ended() bool                  { return f.ended }

// dupConn is a connection whose socket is one of this process.
type dupConn struct {
	fronttest.Conn
	fd int
}

func (c *dupConn) Dup() (int, error) { return unix.Dup(c.fd) }

// Of an agency behind another server, nothing that this process's socket says counts: it has its winners
// when its own system has acknowledged them and it has ended, and not if it was cut off.
func TestRelayedAgencyTakesItsWinners(t *testing.T) {
	cut := errors.New("it is cut off")
	for _, test := range []struct {
		name         string
		ended        bool // the agency, or else it was cut off
		acknowledged bool // all, when its socket ends
		later        bool // some time after that
		goes         bool // then
		broken       error
		taken        bool
		stays        bool // for the rest of its answers
	}{
		{name: "it has them, and ends", ended: true, acknowledged: true, taken: true},
		{name: "it has them, ends, and the way to it breaks", ended: true, acknowledged: true, broken: cut, taken: true},
		{name: "it ends, and has them later", ended: true, later: true, taken: true},
		{name: "it ends, and hasn't got them yet", ended: true, stays: true},
		{name: "it ends, and never gets them", ended: true, broken: cut},
		{name: "it ends, has them later, and is gone", ended: true, later: true, goes: true, taken: true},
		{name: "it has them unread, and is cut off", acknowledged: true, broken: cut},
		{name: "it is cut off", broken: cut},
	} {
		t.Run(test.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pair[1])
			defer unix.Close(pair[0])
			fake := &fakeConn{room: 1 << 10}
			lp, sess := late(t, fake)
			agency, stage := &fakeRelayed{ended: test.ended}, new(spy)
			fake.session, lp.rd.stage = sess, stage
			sess.conn = &relayedSocket{agency: agency}
			sess.over(fake)
			lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Winners, Agency: 1, Payload: []byte("x")}})
			sent := int64(1<<10 - fake.room)
			if test.acknowledged {
				agency.acknowledged = sent
			}
			agency.cut = test.broken
			(&handler{front: lp.front}).OnClose(&dupConn{Conn: fronttest.Conn{Session: sess}, fd: pair[0]}, io.EOF)
			if test.later {
				agency.acknowledged = sent
			}
			if test.goes {
				agency.cut = cut
			}
			lp.tick()
			taken := 0
			for _, r := range stage.requests {
				if r.Kind == lottery.Taken {
					taken++
				}
			}
			if (taken == 1) != test.taken || taken > 1 {
				t.Errorf("it is said %d times to have its winners", taken)
			}
			if (sess.phase != gone) != test.stays {
				t.Errorf("phase %d", sess.phase)
			}
			lp.closeHalves()
		})
	}
}
