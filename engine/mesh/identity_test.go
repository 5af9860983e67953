package mesh

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"loteria/codec/certtest"
)

// open opens the identity of a certificate.
func open(t testing.TB, a *certtest.Authority, p certtest.Paper) *Identity {
	t.Helper()
	f := a.Files(t, p, a)
	i, err := OpenIdentity(f.Cert, f.Key, f.CA)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestOpenIdentity(t *testing.T) {
	a := certtest.New(t)
	for name, test := range map[string]struct {
		uris []string
		id   uint64 // 0: refused
	}{
		"a server":          {[]string{"spiffe://lottery/server/7"}, 7},
		"none":              {nil, 0},
		"two":               {[]string{"spiffe://lottery/server/7", "spiffe://lottery/server/8"}, 0},
		"an agency":         {[]string{"spiffe://lottery/agency/7"}, 0},
		"server zero":       {[]string{"spiffe://lottery/server/0"}, 0},
		"a leading zero":    {[]string{"spiffe://lottery/server/07"}, 0},
		"no number":         {[]string{"spiffe://lottery/server/x"}, 0},
		"more path":         {[]string{"spiffe://lottery/server/7/8"}, 0},
		"another scheme":    {[]string{"https://lottery/server/7"}, 0},
		"no domain":         {[]string{"spiffe:///server/7"}, 0},
		"a query":           {[]string{"spiffe://lottery/server/7?x"}, 0},
		"a number too long": {[]string{"spiffe://lottery/server/99999999999999999999"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := certtest.Server(1)
			p.URIs = test.uris
			f := a.Files(t, p, a)
			i, err := OpenIdentity(f.Cert, f.Key, f.CA)
			if test.id == 0 {
				if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "want") {
					t.Errorf("error %v", err)
				}
			} else if err != nil || i.ID() != test.id {
				t.Errorf("%v, %v; want server %d", i, err, test.id)
			}
		})
	}
	f, other := a.Files(t, certtest.Server(1), a), a.Files(t, certtest.Server(1), a)
	for _, files := range [][3]string{
		{f.Key, f.Cert, f.CA}, {f.Cert, f.Key, f.Key}, {f.Cert, f.CA, f.CA}, {"nowhere", f.Key, f.CA},
		{f.Cert, f.Key, "nowhere"},
	} {
		if _, err := OpenIdentity(files[0], files[1], files[2]); err == nil {
			t.Errorf("taken: %v", files)
		}
	}
	if _, err := OpenIdentity(f.Cert, other.Key, f.CA); !errors.Is(err, ErrIdentity) {
		t.Errorf("another's key: %v", err)
	}
}

// With identities, servers hear each other, and nobody else: whoever doesn't prove to be the server
// that it says it is gets no message and can send none.
func TestIdentities(t *testing.T) {
	a, stranger := certtest.New(t), certtest.New(t)
	n := newNet3(t, func(s *Settings) { s.Identity = open(t, a, certtest.Server(s.ID)) })
	n.connected(1, 2, 3)
	n.meshes[1].Send(2, false, []byte("private"))
	if got := n.inboxes[2].await(t, 1); got[0] != "1: private" {
		t.Errorf("heard %q", got)
	}
	n.stop(2)
	await(t, "the loss", func() bool { return !n.meshes[1].Connected(2) })
	with := func(change func(*certtest.Paper)) *Identity {
		p := certtest.Server(2)
		change(&p)
		return open(t, a, p)
	}
	another := open(t, a, certtest.Server(3))
	another.id = 2
	foreign := open(t, stranger, certtest.Server(2))
	foreign.authority = a.Pool()
	for name, imposter := range map[string]*Identity{
		"another authority's": foreign,
		"expired":             with(func(p *certtest.Paper) { p.NotAfter = time.Now().Add(-time.Minute) }),
		"not valid yet":       with(func(p *certtest.Paper) { p.NotBefore = time.Now().Add(time.Minute) }),
		"another server's":    another,
		"another domain's":    with(func(p *certtest.Paper) { p.URIs = []string{"spiffe://elsewhere/server/2"} }),
		"a server's only":     with(func(p *certtest.Paper) { p.Usages = p.Usages[:1] }),
		"a client's only":     with(func(p *certtest.Paper) { p.Usages = p.Usages[1:] }),
	} {
		t.Run(name, func(t *testing.T) {
			imposter.domain = "lottery" // it trusts the others whatever it is
			in := &inbox{grown: make(chan struct{}, 1)}
			m, err := Listen(Settings{ID: 2, Servers: n.addrs, Addr: n.addrs[2], Mesh: [16]byte{7}, Identity: imposter}, n.meshes[1].log, in.deliver)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}()
			if name != "a client's only" { // that one may dial
				conn, err := m.dial(t.Context(), 1, n.addrs[1], urgent)
				if err == nil {
					_ = conn.Close()
					t.Error("server 1 takes its connection")
				}
			}
			if name != "a server's only" { // that one may be dialled
				conn, err := n.meshes[1].dial(t.Context(), 2, n.addrs[2], urgent)
				if !errors.Is(err, ErrIdentity) {
					t.Errorf("server 1 dials it: %v", err)
				}
				if err == nil {
					_ = conn.Close()
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		c := tls.Client(n.wire(1), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		_, err := c.Write(hello{mesh: [16]byte{7}, from: 2, to: 1}.encode())
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // TLS 1.3 says no behind the handshake
		}
		if err == nil {
			t.Error("server 1 takes a client without a certificate")
		}
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		i := open(t, a, certtest.Server(2))
		config := i.dial(1)
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if err := tls.Client(n.wire(1), config).Handshake(); err == nil {
			t.Error("server 1 speaks TLS 1.2")
		}
	})
	t.Run("plain", func(t *testing.T) {
		c := n.wire(1)
		if _, err := c.Write(hello{mesh: [16]byte{7}, from: 2, to: 1}.encode()); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(welcome))
		if n, _ := c.Read(b); string(b[:n]) == welcome {
			t.Error("server 1 takes a plain connection")
		}
	})
	n.start(2)
	n.connected(1, 2, 3)
}
