package engine_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine/channel/channeltest"
)

// soakStrangerID is an agency with a certificate whom nobody expects. Peers who mean harm are him.
const soakStrangerID = 99999

// tlsAbuse is what is done to a connection behind its handshake.
var tlsAbuses = map[string]func(c net.Conn, p *channeltest.Peer) error{
	"says nothing": func(c net.Conn, _ *channeltest.Peer) error { return nil },
	"a byte a record": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write(p.Says(frames("HELLO|99999", "GET_WINNERS|99999"), 1))
		return err
	},
	"half a record": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write(p.Says(bytes.Repeat([]byte("9"), 16000), 16000)[:8000])
		return err
	},
	"a record that is none": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write([]byte{23, 3, 3, 1, 0})
		if err == nil {
			_, err = c.Write(bytes.Repeat([]byte{7}, 256))
		}
		return err
	},
	"renegotiation": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write(p.Record(channeltest.Handshake, []byte{1, 0, 0, 0}))
		return err
	},
	"new keys without end": func(c net.Conn, p *channeltest.Peer) error {
		for {
			var flood []byte
			for range 100 {
				for range 15 {
					flood = append(flood, p.KeyUpdate(true)...)
				}
				flood = append(flood, p.Says([]byte("1"), 1)...)
			}
			if _, err := c.Write(flood); err != nil {
				return err
			}
		}
	},
	"cut within a frame": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write(p.Says([]byte("500\nMaría|"), 100))
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		return err
	},
	"an end, and more": func(c net.Conn, p *channeltest.Peer) error {
		_, err := c.Write(append(append(p.Says(frames("GET_WINNERS|99999"), 100), p.CloseNotify()...), p.Says(frames(betJuan), 100)...))
		return err
	},
	"no TLS behind the handshake": func(c net.Conn, _ *channeltest.Peer) error {
		_, err := c.Write(frames(betJuan))
		return err
	},
}

// abuseTLS starts those who do harm to the address for TLS, again and again until ctx is done: with
// their certificates, and with handshakes that never end.
func (s *soak) abuseTLS(ctx context.Context, everybody *sync.WaitGroup) {
	config := &tls.Config{RootCAs: s.authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol},
		Certificates: []tls.Certificate{s.authority.Issue(s.t, certtest.Agency(soakStrangerID))}}
	for _, harm := range tlsAbuses {
		everybody.Go(func() {
			for ctx.Err() == nil {
				s.connectTLS(ctx, func(c net.Conn) {
					if p, err := channeltest.TryConnect(c, config); err == nil && harm(c, p) == nil {
						_, _ = io.Copy(io.Discard, p) // until it is closed
					}
				})
			}
		})
	}
	const stalled = 20
	for range stalled {
		everybody.Go(func() {
			for ctx.Err() == nil {
				s.connectTLS(ctx, func(c net.Conn) {
					begun := []byte{22, 3, 1, 0, 200, 1, 0, 0}
					if _, err := c.Write(begun[:rand.IntN(len(begun)+1)]); err == nil {
						_, _ = io.Copy(io.Discard, c)
					}
				})
			}
		})
	}
}

// connectTLS does something with a connection, until it is over or ctx is done. Whoever does harm has to
// expect every error.
func (s *soak) connectTLS(ctx context.Context, do func(net.Conn)) {
	pause := time.After(time.Duration(10+rand.IntN(90)) * time.Millisecond) // handshakes are dear to both sides
	defer func() {
		select {
		case <-pause:
		case <-ctx.Done():
		}
	}()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 0, byte(1+rand.IntN(200)))}}
	c, err := d.DialContext(ctx, "tcp", s.secureAddr)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	s.abuses.Add(1)
	do(c)
}
