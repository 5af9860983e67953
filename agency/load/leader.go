package load

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"loteria/codec"
)

var (
	// errNoLeader says that none of a draw's servers has said who leads.
	errNoLeader = errors.New("load: nobody leads")
	// errMoved says that a server leads no more.
	errMoved = errors.New("load: another server leads now")
)

// leaderTimeout is how long several servers may take until one of them leads.
const leaderTimeout = 30 * time.Second

// connect connects the senders to the server that leads. Several servers may still be starting, and
// another one may lead when the senders come.
func (r *run) connect() error {
	addrs := strings.Split(r.target.Addr, ",")
	if len(addrs) == 1 {
		return each(dialsMax, r.senders, sender.connect)
	}
	deadline := time.Now().Add(leaderTimeout)
	for n := 0; ; n++ {
		leader, err := r.askLeader(addrs[n%len(addrs)])
		if leader != "" {
			r.target.Addr = leader
			if err = each(dialsMax, r.senders, sender.connect); !isMove(err) {
				return err
			}
			for _, a := range r.agents {
				if errClose := a.close(); errClose != nil {
					return errors.Join(err, errClose)
				}
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w of %s, for %v: %w", errNoLeader, strings.Join(addrs, ","), leaderTimeout, err)
		}
		if err := r.beforeNextPoll(); err != nil {
			return err
		}
	}
}

// isMove reports whether a connection has failed as it does when another server leads: the server says so,
// or closes it.
func isMove(err error) bool {
	for _, is := range []error{errMoved, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// askLeader asks a server, as the first agency, who leads: it is addr itself if that one takes a
// HELLO. Without a leader there is an error.
func (r *run) askLeader(addr string) (leader string, err error) {
	conn, err := r.dial(addr, r.agents[0].tls)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return "", err
	}
	reply, err := exchange(conn, codec.AppendHello(nil, 1))
	switch {
	case err != nil:
		return "", err
	case reply.Kind == codec.ReplyWelcome:
		return addr, nil
	case reply.Kind == codec.ReplyError && reply.Code == codec.CodeNotLeader && reply.Detail != "":
		return reply.Detail, nil
	}
	return "", fmt.Errorf("%w: %s: %s", ErrServer, addr, describe(reply))
}
