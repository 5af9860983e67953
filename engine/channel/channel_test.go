package channel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine/channel/channeltest"
)

const patience = 20 * time.Second

// ends are a channel and its peer, after the handshake.
type ends struct {
	t       testing.TB
	channel *Channel
	peer    *channeltest.Peer
	far     net.Conn // the peer's end of the socket
	near    net.Conn
}

// credentialsFor are those of a server that asks for certificates of the authority, if it is there.
func credentialsFor(t testing.TB, authority, clients *certtest.Authority) *Credentials {
	t.Helper()
	trusts := clients
	if trusts == nil {
		trusts = authority
	}
	f := authority.Files(t, certtest.Server(1), trusts)
	files := Files{Certificate: f.Cert, Key: f.Key}
	if clients != nil {
		files.ClientCA = f.CA
	}
	c, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clientConfig(authority *certtest.Authority) *tls.Config {
	return &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol}}
}

// sockets are both ends of a connection of this machine.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if far, err = net.Dial("tcp", l.Addr().String()); err == nil {
		near, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{near, far} {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

func connect(t testing.TB, credentials *Credentials, config *tls.Config) *ends {
	t.Helper()
	e := &ends{t: t}
	e.near, e.far = sockets(t)
	done := make(chan error)
	go func() {
		var err error
		e.channel, err = credentials.Handshake(e.near)
		done <- err
	}()
	e.peer = channeltest.Connect(t, e.far, config)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return e
}

// hear feeds the channel with pieces of at most so many bytes, and returns what it has heard.
func (e *ends) hear(sealed []byte, piece int) (heard []byte, err error) {
	buf := make([]byte, RecordBytesMax)
	for len(sealed) > 0 {
		n := min(piece, len(sealed))
		e.channel.Feed(sealed[:n])
		for {
			plain, err := e.channel.Next(buf)
			heard = append(heard, plain...)
			if err != nil {
				return heard, err
			}
			if len(plain) == 0 {
				break
			}
		}
		sealed = sealed[n:]
	}
	return heard, nil
}

// send has the peer hear what is sealed.
func (e *ends) send(want string) {
	e.t.Helper()
	sealed := e.channel.Sealed()
	if _, err := e.near.Write(sealed); err != nil {
		e.t.Fatal(err)
	}
	e.channel.Sent(len(sealed))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(e.peer, got); err != nil || string(got) != want {
		e.t.Fatalf("the peer heard %q, %v; want %q", got, err, want)
	}
}

// However records are cut, and however small they are, what the peer has said comes out, and the other
// way round. Nothing that is said right behind the handshake is lost.
func TestFragments(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, nil)
	message := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	for _, record := range []int{1, 700, RecordBytesMax} {
		message := message[:min(len(message), 3000*record)]
		for _, piece := range []int{1, 4, 5, 6, 21, 22, 23, 700, 1 << 14, 1 << 20} {
			e := connect(t, credentials, clientConfig(authority))
			sealed := append(e.peer.Says(message, record), e.peer.CloseNotify()...)
			heard, err := e.hear(sealed, piece)
			if !errors.Is(err, io.EOF) || !bytes.Equal(heard, message) || !e.channel.Ended() {
				t.Fatalf("records of %d, pieces of %d: heard %d bytes, %v", record, piece, len(heard), err)
			}
			if err := e.channel.Seal([]byte("still heard")); err != nil { // a half-closed peer is answered
				t.Fatal(err)
			}
			e.send("still heard")
			e.channel.SealEnd()
			e.send("")
			if _, err := e.peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatalf("the end is heard as %v", err)
			}
		}
	}
}

// What is said in the same write as the end of the handshake stays in the socket, for the event loop.
func TestNothingIsReadAhead(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, nil)
	near, far := sockets(t)
	held := &holding{Conn: far}
	said := make(chan error)
	go func() {
		client := tls.Client(held, clientConfig(authority))
		err := client.Handshake()
		if err == nil {
			_, err = client.Write([]byte("first words")) // goes out with the handshake's end
		}
		said <- errors.Join(err, held.release())
	}()
	channel, err := credentials.Handshake(near)
	if err := errors.Join(err, <-said); err != nil {
		t.Fatal(err)
	}
	e := &ends{t: t, channel: channel}
	rest := make([]byte, 1000)
	n, err := near.Read(rest)
	heard, errHear := e.hear(rest[:n], len(rest))
	if string(heard) != "first words" {
		t.Errorf("the socket has %d bytes, %v: %q, %v", n, err, heard, errHear)
	}
}

// holding keeps back all writes after the first until release.
type holding struct {
	net.Conn
	begun bool
	held  []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if !h.begun {
		h.begun = true
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	if bytes.Count(h.held, []byte{23, 3, 3}) >= 2 { // Finished, and data
		return len(p), h.release()
	}
	return len(p), nil
}

func (h *holding) release() error {
	_, err := h.Conn.Write(h.held)
	h.held = nil
	return err
}

// A peer may go on with other keys as often as it likes. What we have to answer waits for the socket,
// and what we say then is sealed with the newest key.
func TestKeyUpdates(t *testing.T) {
	authority := certtest.New(t)
	e := connect(t, credentialsFor(t, authority, nil), clientConfig(authority))
	for i := range 5 {
		sealed := append(e.peer.KeyUpdate(i%2 == 0), e.peer.KeyUpdate(true)...)
		sealed = append(sealed, e.peer.Says([]byte("x"), 1)...)
		if heard, err := e.hear(sealed, 3); err != nil || string(heard) != "x" {
			t.Fatalf("heard %q, %v", heard, err)
		}
		if len(e.channel.Sealed()) == 0 {
			t.Fatal("the peer's question has no answer")
		}
		if err := e.channel.Seal([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		e.send("answer")
	}
	// Too many are a flood, and without a word between them a few are too many.
	for between, most := range map[string]int{"": 20, "x": uselessMax} {
		for _, both := range []bool{false, true} {
			for _, piece := range []int{7, 1 << 20} {
				e := connect(t, credentialsFor(t, authority, nil), clientConfig(authority))
				var sealed []byte
				for range most + 1 {
					sealed = append(append(sealed, e.peer.KeyUpdate(both)...), e.peer.Says([]byte(between), 1)...)
				}
				heard, err := e.hear(sealed, piece)
				if err == nil || len(heard) != most*len(between) {
					t.Errorf("%d bytes heard between new keys, then %v", len(heard), err)
				}
			}
		}
	}
}

// What isn't sealed with the right key ends the channel, and the peer is told by an alert.
func TestBadRecords(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, nil)
	for name, spoil := range map[string]func(*channeltest.Peer) []byte{
		"flipped":     func(p *channeltest.Peer) []byte { b := p.Says([]byte("hello"), 5); b[9] ^= 1; return b },
		"again":       func(p *channeltest.Peer) []byte { b := p.Says([]byte("hello"), 5); return append(b, b...) },
		"left out":    func(p *channeltest.Peer) []byte { p.Says([]byte("x"), 1); return p.Says([]byte("hello"), 5) },
		"no TLS":      func(*channeltest.Peer) []byte { return []byte("7\nHELLO|1 and more") },
		"too long":    func(*channeltest.Peer) []byte { return []byte{23, 3, 3, 255, 255} },
		"renegotiate": func(p *channeltest.Peer) []byte { return p.Record(channeltest.Handshake, []byte{1, 0, 0, 0}) },
		"empty ones":  func(p *channeltest.Peer) []byte { return bytes.Repeat(p.Record(channeltest.Data, nil), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, credentials, clientConfig(authority))
			var sealed []byte
			if name == "empty ones" {
				for range 100 {
					sealed = append(sealed, spoil(e.peer)...)
				}
			} else {
				sealed = spoil(e.peer)
			}
			if _, err := e.hear(sealed, 7); err == nil || errors.Is(err, io.EOF) || e.channel.Ended() {
				t.Errorf("the error is %v", err)
			}
			if _, err := e.near.Write(e.channel.Sealed()); err != nil {
				t.Fatal(err)
			}
			if _, err := e.peer.Read(make([]byte, 1)); err == nil || !strings.HasPrefix(err.Error(), "remote error: tls:") {
				t.Errorf("the peer is told %v", err)
			}
		})
	}
}

// Who a peer is, is the one URI of its certificate. Everybody else is refused, and both sides say why.
func TestWhoIsTaken(t *testing.T) {
	authority, other := certtest.New(t), certtest.New(t)
	mutual, open := credentialsFor(t, authority, authority), credentialsFor(t, authority, nil)
	agency := func(change func(*certtest.Paper)) *tls.Certificate {
		p := certtest.Agency(7)
		if change != nil {
			change(&p)
		}
		c := authority.Issue(t, p)
		return &c
	}
	foreign := other.Issue(t, certtest.Agency(7))
	uri := "spiffe://" + certtest.Domain + "/agency/"
	for name, test := range map[string]struct {
		credentials *Credentials
		certificate *tls.Certificate
		change      func(*tls.Config)
		agency      codec.Agency
		said, told  string // by the server, to the peer; empty: it is taken
	}{
		"agency":       {mutual, agency(nil), nil, 7, "", ""},
		"nobody asked": {open, agency(nil), nil, 0, "", ""},
		"no certificate": {mutual, nil, nil, 0,
			"didn't provide a certificate: want one of SERVER_TLS_CLIENT_CA_FILE", "certificate required"},
		"expired": {mutual, agency(func(p *certtest.Paper) { p.NotAfter = time.Now().Add(-time.Minute) }), nil, 0,
			"certificate has expired or is not yet valid", "expired certificate"},
		"not yet valid": {mutual, agency(func(p *certtest.Paper) { p.NotBefore = time.Now().Add(time.Minute) }), nil, 0,
			"certificate has expired or is not yet valid", "expired certificate"},
		"another authority": {mutual, &foreign, nil, 0, "signed by unknown authority", "unknown certificate authority"},
		"two names": {mutual, agency(func(p *certtest.Paper) { p.URIs = []string{uri + "7", uri + "8"} }), nil, 0,
			"it has 2 URIs", "bad certificate"},
		"no name":          {mutual, agency(func(p *certtest.Paper) { p.URIs = nil }), nil, 0, "it has 0 URIs", "bad certificate"},
		"server":           {mutual, agency(func(p *certtest.Paper) { p.URIs = certtest.Server(7).URIs }), nil, 0, "is for spiffe", "bad certificate"},
		"another domain":   {mutual, agency(func(p *certtest.Paper) { p.URIs = []string{"spiffe://x/agency/7"} }), nil, 0, "domain x", "bad certificate"},
		"not for a client": {mutual, agency(func(p *certtest.Paper) { p.Usages = certtest.Server(1).Usages[:1] }), nil, 0, "incompatible key usage", "bad certificate"},
		"another protocol": {open, nil, func(c *tls.Config) { c.NextProtos = []string{"h2"} }, 0, "unsupported application protocols", "no application protocol"},
		"no protocol":      {open, nil, func(c *tls.Config) { c.NextProtos = nil }, 0, "does not speak loteria/1", "bad certificate"},
		"TLS 1.2":          {open, nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, 0, "want TLS 1.3", "protocol version"},
	} {
		for _, way := range []string{"channel", "stream"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				near, far := sockets(t)
				config := clientConfig(authority)
				if test.certificate != nil {
					// It shows what it has, also if the server wants another authority's.
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return test.certificate, nil }
				}
				if test.change != nil {
					test.change(config)
				}
				told := make(chan error)
				go func() {
					client := tls.Client(far, config)
					_, err := client.Read(make([]byte, 1))
					told <- err
				}()
				before := test.credentials.Handshakes()
				var agency codec.Agency
				var err error
				if way == "channel" {
					var c *Channel
					if c, err = test.credentials.Handshake(near); err == nil {
						agency = c.Agency()
					}
				} else {
					var s *Stream
					if s, err = test.credentials.Serve(near); err == nil {
						agency = s.Agency()
					}
				}
				_ = near.Close()
				heard := <-told
				counted := "success"
				if test.said == "" {
					if err != nil || agency != test.agency {
						t.Errorf("agency %d is taken for %d, %v", test.agency, agency, err)
					}
				} else {
					counted = "fail"
					if err == nil || !strings.Contains(Explain(err), test.said) {
						t.Errorf("the server says: %v", err)
					}
					if heard == nil || !strings.Contains(heard.Error(), test.told) {
						t.Errorf("the peer is told: %v", heard)
					}
				}
				if after := test.credentials.Handshakes(); after[counted] != before[counted]+1 {
					t.Errorf("counted %v after %v", after, before)
				}
			})
		}
	}
}

// A peer can't make the server keep more than a little for its name.
func TestLargeHandshake(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, authority)
	for _, test := range []struct {
		more int // certificates behind its own
		want error
	}{{2, nil}, {200, errHandshakeTooLarge}} {
		config := clientConfig(authority)
		own := authority.Issue(t, certtest.Agency(7))
		for range test.more {
			own.Certificate = append(own.Certificate, own.Certificate[0])
		}
		config.Certificates = []tls.Certificate{own}
		near, far := sockets(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = tls.Client(far, config).Read(make([]byte, 1)) // its error depends on how far it came
		}()
		if _, err := credentials.Handshake(near); !errors.Is(err, test.want) {
			t.Errorf("%d certificates more: %v, want %v", test.more, err, test.want)
		}
		_ = near.Close()
		<-done
	}
}

// A peer can put what it likes into an error. The log shows only the beginning.
func TestLongExplanation(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, nil)
	near, far := sockets(t)
	config := clientConfig(authority)
	config.NextProtos = nil
	for range 100 {
		config.NextProtos = append(config.NextProtos, strings.Repeat("\x01", 250))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(far, config).Handshake() // it is refused
	}()
	_, err := credentials.Serve(near)
	_ = near.Close()
	<-done
	if n := len(Explain(err)); n > explanationMax+len("...") || len(err.Error()) < n {
		t.Errorf("%d bytes of %d", n, len(err.Error()))
	}
}

// Who speaks no TLS is told apart, so that it can be answered.
func TestPlainBytes(t *testing.T) {
	credentials := credentialsFor(t, certtest.New(t), nil)
	near, far := sockets(t)
	if _, err := far.Write([]byte("7\nHELLO|1")); err != nil {
		t.Fatal(err)
	}
	_, err := credentials.Handshake(near)
	if header, ok := errors.AsType[tls.RecordHeaderError](err); !ok || header.Conn == nil || !strings.Contains(Explain(err), "no TLS") {
		t.Errorf("the error is %v", err)
	}
}

// A connection that ends without a word is no end that the peer has said.
func TestCutStream(t *testing.T) {
	authority := certtest.New(t)
	credentials := credentialsFor(t, authority, nil)
	for _, says := range []bool{false, true} {
		near, far := sockets(t)
		go func() {
			peer, err := channeltest.TryConnect(far, clientConfig(authority))
			if err == nil && says {
				_, err = far.Write(peer.CloseNotify())
			}
			if err != nil {
				t.Error(err)
			}
			_ = far.Close()
		}()
		s, err := credentials.Serve(near)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); errors.Is(err, io.EOF) != says || errors.Is(err, ErrCut) == says {
			t.Errorf("said %t: the end is %v", says, err)
		}
	}
}

// Whatever comes, the channel hears exactly what was said before the first fault, never crashes, and
// holds no more than it was made to say.
func FuzzFeed(f *testing.F) {
	f.Add([]byte{0, 5, 1, 0, 2, 9, 3}, uint8(3))
	f.Add([]byte{1, 1, 1, 1, 0, 200, 4, 7}, uint8(1))
	f.Add([]byte{2, 0, 255, 5, 3, 0, 1}, uint8(255))
	authority := certtest.New(f)
	credentials := credentialsFor(f, authority, nil)
	f.Fuzz(func(t *testing.T, script []byte, piece uint8) {
		e := connect(t, credentials, clientConfig(authority))
		var want, sealed []byte
		ended, broken := false, false
		for updates := 0; len(script) > 0 && !ended && !broken && updates < uselessMax; {
			kind := script[0] % 6
			script = script[1:]
			length := 0
			if len(script) > 0 {
				length = int(script[0])
			}
			switch kind {
			case 0:
				said := bytes.Repeat([]byte{byte(length)}, length*70+1)
				want = append(want, said...)
				sealed = append(sealed, e.peer.Says(said, 1+length*64)...)
			case 1, 2:
				updates++
				sealed = append(sealed, e.peer.KeyUpdate(kind == 1)...)
				want = append(want, 'u') // or else it is a flood
				sealed = append(sealed, e.peer.Says([]byte("u"), 1)...)
			case 3:
				sealed, ended = append(sealed, e.peer.CloseNotify()...), true
			case 4:
				sealed, broken = append(sealed, script...), true
			case 5:
				record := e.peer.Says([]byte("spoilt"), 10)
				record[5+length%(len(record)-5)] ^= byte(1 + length%255)
				sealed, broken = append(sealed, record...), true
			}
		}
		heard, err := e.hear(sealed, int(piece)+1)
		switch {
		case !bytes.Equal(heard, want):
			t.Errorf("heard %d bytes, want %d", len(heard), len(want))
		case ended && !errors.Is(err, io.EOF), !ended && errors.Is(err, io.EOF), !ended && !broken && err != nil:
			t.Errorf("ended %t, broken %t: %v", ended, broken, err)
		}
		const alert, update = 24, 27
		if n := len(e.channel.Sealed()); n > alert+update*bytes.Count(want, []byte("u")) {
			t.Errorf("it holds %d bytes", n)
		}
	})
}
