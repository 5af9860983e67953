package front

import "loteria/engine/channel"

// secureSocket is a connection over TLS. It seals only what the socket takes, and one record more. So
// a backlog holds what is to be said, not what is sealed: the same for many peers is held once.
type secureSocket struct {
	Conn    // the socket
	channel *channel.Channel
	// sealed is how many bytes of the next Send are in a record that the socket hasn't taken whole.
	sealed int
	ended  bool // our end is sealed
}

// Send seals p. What it doesn't take of p has to be sent next: its beginning may be sealed already.
func (c *secureSocket) Send(p []byte) (sent int, err error) {
	for {
		if whole, err := c.flush(); err != nil || !whole {
			return sent, err
		}
		sent, p, c.sealed = sent+c.sealed, p[c.sealed:], 0
		if len(p) == 0 {
			return sent, nil
		}
		n := min(len(p), channel.RecordBytesMax)
		if err := c.channel.Seal(p[:n]); err != nil {
			return sent, err
		}
		c.sealed = n
	}
}

// ahead is how many bytes are sealed beyond those that the next Send takes.
func (c *secureSocket) ahead() int { return len(c.channel.Sealed()) - c.sealed }

// flush sends what is sealed. whole reports whether the socket has taken all.
func (c *secureSocket) flush() (whole bool, err error) {
	sealed := c.channel.Sealed()
	if len(sealed) == 0 {
		return true, nil
	}
	n, err := c.Conn.Send(sealed)
	c.channel.Sent(n)
	return n == len(sealed), err
}

// sealEnd says over TLS, once, that nothing more will come. Otherwise the peer would take our end for a
// cut. It reports whether the socket has taken that. After an error it never will, which whoever uses
// the socket next sees.
func (s *Session) sealEnd() bool {
	c := s.secure
	if c == nil {
		return true
	}
	if !c.ended {
		c.channel.SealEnd()
		c.ended = true
	}
	whole, err := c.flush()
	return whole || err != nil
}
