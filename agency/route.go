package agency

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// AddrsMax is the most addresses that Dial takes.
const AddrsMax = 16

const (
	// hopsMax is how many times in a row servers may send the client on to a leader without any
	// progress. Of five servers with outdated ideas of the leader each is seen once. More hops are
	// a circle, and the client backs off.
	hopsMax = 4
	// leaderUnknownDelay is the mean delay after a server has said that it doesn't know the leader
	// now. An election takes some hundred milliseconds, and all servers say the same until its end.
	// A shorter delay would only use up the rounds in which the back-off is short.
	leaderUnknownDelay = 200 * time.Millisecond
)

// splitAddrs splits Dial's list of addresses, or says why it is none.
func splitAddrs(list string) ([]string, error) {
	addrs := strings.Split(list, ",")
	if len(addrs) > AddrsMax {
		return nil, fmt.Errorf("%w: %d addresses: %d at most are legal", ErrOption, len(addrs), AddrsMax)
	}
	for i, addr := range addrs {
		several := len(addrs) > 1
		switch {
		case several && addr == "":
			return nil, fmt.Errorf("%w: address %d of %q is empty", ErrOption, i+1, list)
		case several && strings.TrimSpace(addr) != addr:
			return nil, fmt.Errorf("%w: address %q has a space beside it: write only a comma between two",
				ErrOption, addr)
		case slices.Contains(addrs[:i], addr):
			return nil, fmt.Errorf("%w: address %s is there twice", ErrOption, addr)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("%w: address: %w; write it as host:port", ErrOption, err)
		}
	}
	return addrs, nil
}

// route decides which address is tried next, and whether to wait before that. It is pure: it has
// no socket and no clock.
//
// The addresses are tried in turn. Only a round over all of them without progress is followed by
// the back-off; a single address is a round by itself. After a connection that worked and broke the
// turn goes on, too: its server may be dead or paused, and trying it again could cost a whole
// time-out, while any other server that is alive tells at once who leads. So the address that broke
// comes last in the round.
//
// An address that a server names as the leader's is tried out of turn, at most hopsMax times in a
// row. If it fails, the turn goes on where it was.
type route struct {
	addrs []string // at least one
	at    int      // index of the address whose turn it is
	told  string   // the leader's address, to be tried before that; empty if there is none
	tries int      // tries in turn since progress or the last long pause
	hops  int      // tries out of turn since then
}

// pause is how long to wait before the next try.
type pause uint8

const (
	pauseLong  pause = iota // the back-off
	pauseShort              // leaderUnknownDelay
	pauseNone
)

// addr is the address to try, or of the present connection.
func (r *route) addr() string {
	if r.told != "" {
		return r.told
	}
	return r.addrs[r.at]
}

// progressed says that the server at addr has done something for the agency. If the list has it,
// the turn moves there. A welcome alone is nothing: servers that only welcome have to be tried more
// and more slowly, and must not keep the turn from the others.
func (r *route) progressed() {
	if i := slices.Index(r.addrs, r.told); i >= 0 {
		r.at, r.told = i, ""
	}
	r.tries, r.hops = 0, 0
}

// failed moves on to the next address.
func (r *route) failed() pause {
	r.leave()
	if r.tries >= len(r.addrs) {
		return r.rest()
	}
	return pauseNone
}

// sentOn moves on to the leader's address. An empty one stands for a leader that isn't known now:
// then the turn goes on.
func (r *route) sentOn(leader string) pause {
	if leader == "" {
		return min(r.failed(), pauseShort)
	}
	r.leave()
	if r.hops == hopsMax {
		return r.rest()
	}
	r.hops++
	r.told = leader
	return pauseNone
}

// leave takes the turn from addr.
func (r *route) leave() {
	if r.told != "" {
		r.told = ""
		return
	}
	r.at = (r.at + 1) % len(r.addrs)
	r.tries++
}

// rest begins a round.
func (r *route) rest() pause {
	r.tries, r.hops = 0, 0
	return pauseLong
}
