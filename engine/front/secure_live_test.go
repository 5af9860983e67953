package front

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine/channel"
	"loteria/engine/channel/channeltest"
	"loteria/engine/front/fronttest"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// secureLive is a live server that also takes agencies over TLS.
type secureLive struct {
	*live
	authority *certtest.Authority
	at        net.Addr
}

// serveSecure starts one. Agencies have to show a certificate if it is mutual.
func serveSecure(t *testing.T, cfg Config, mutual bool) *secureLive {
	t.Helper()
	s := &secureLive{authority: certtest.New(t)}
	f := s.authority.Files(t, certtest.Server(1), s.authority)
	files := channel.Files{Certificate: f.Cert, Key: f.Key}
	if mutual {
		files.ClientCA = f.CA
	}
	credentials, err := channel.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLSHandshakes == 0 {
		cfg.TLSHandshakes = 64
	}
	s.live = serveLive(t, cfg, 1, listenLocal(t))
	l := listenLocal(t)
	s.at = l.Addr()
	s.front.AcceptTLS(l, credentials)
	ticks, stop := time.NewTicker(10*time.Millisecond), make(chan struct{})
	go func() {
		for {
			select {
			case <-ticks.C:
				s.front.Tick()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { ticks.Stop(); close(stop) })
	return s
}

func (s *secureLive) config() *tls.Config {
	return &tls.Config{RootCAs: s.authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol}}
}

// socket is a connection on which no word of TLS is said yet.
func (s *secureLive) socket(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // mostly closed by then
	if err := c.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// connect returns an agency's end over TLS, which may show the certificate of an agency. Its end is an
// error unless the server has said so.
func (s *secureLive) connect(t *testing.T, shows codec.Agency) *wire {
	t.Helper()
	config := s.config()
	if shows != 0 {
		config.Certificates = []tls.Certificate{s.authority.Issue(t, certtest.Agency(shows))}
	}
	return &wire{t, tls.Client(cutSocket{s.socket(t)}, config)}
}

type cutSocket struct{ *net.TCPConn }

func (c cutSocket) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if errors.Is(err, io.EOF) {
		err = channel.ErrCut
	}
	return n, err
}

func (w *wire) hearsTheEnd() {
	w.t.Helper()
	if n, err := w.conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		w.t.Errorf("heard %d bytes, %v; want the end", n, err)
	}
}

// awaitLog waits for a line that says so.
func (l *live) awaitLog(t *testing.T, action, part string) {
	t.Helper()
	awaitThat(t, "the line "+part, func() bool {
		for _, entry := range l.logs.FilterMessage(action).All() {
			if strings.Contains(fmt.Sprint(entry.ContextMap()), part) {
				return true
			}
		}
		return false
	})
}

// awaitThat looks again and again.
func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(liveTimeout)
	for !is() {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

const ana = "Ana|Paz|1|1990-01-01|7574|"

// A certificate says who the agency is, also if all others need a secret. It is no other one.
func TestCertificateIsIdentity(t *testing.T) {
	cfg := testConfig()
	cfg.Agencies = 2
	secret, err := codec.ParseSecret([]byte("something-long-and-hard-to-guess"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Secrets = NewSecrets([]codec.Secret{secret, secret}, secret)
	s := serveSecure(t, cfg, true)
	s.dial(t).say("HELLO|1").hears(codec.CodeAuthenticationRequired.String()).close()
	s.connect(t, 1).say("HELLO|1").hears("WELCOME|0|64|65536|00000000").say(ana + "1").hears("ACK").close()
	s.awaitLog(t, "autenticacion", "agencia:1")
	s.connect(t, 2).say(ana + "1").hears(codec.CodeInvalidAgency.String()).close()
	s.awaitLog(t, "apuesta_recibida", codec.CodeInvalidAgency.String())
	refused := s.connect(t, 0)
	if _, err := refused.conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	s.awaitLog(t, "tls", "didn't provide a certificate")
}

// Who comes to the wrong one of the two ports is told so in words that it understands.
func TestWrongPort(t *testing.T) {
	s := serveSecure(t, testConfig(), false)
	plain := s.socket(t)
	w := (&wire{t, plain}).say("HELLO|1").hears(codec.CodeInvalidFrame.String())
	w.hearsTheEnd()
	s.awaitLog(t, "tls", "AGENCY_TLS_CA_FILE")
	c, err := tls.Dial("tcp", s.addr.String(), s.config())
	if header, ok := errors.AsType[tls.RecordHeaderError](err); !ok || string(header.RecordHeader[:]) != "19\nER" {
		t.Errorf("TLS on the plain port: %v, %v", c, err)
	}
	s.awaitLog(t, "tls", "SERVER_TLS_ADDR")
}

// A peer that says its end still gets what it is owed, whether or not it also shuts its socket. One
// that is cut is gone at once, whatever it is owed.
func TestEndsOverTLS(t *testing.T) {
	cfg := testConfig()
	cfg.Agencies = 2
	for _, shuts := range []bool{false, true} {
		s := serveSecure(t, cfg, false)
		a := s.connect(t, 0).say("HELLO|1").hears("WELCOME|0|64|65536|00000000").say("GET_WINNERS|1")
		secured := a.conn.(*tls.Conn)
		if err := secured.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if shuts {
			if err := secured.NetConn().(cutSocket).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		b := s.connect(t, 0).say("HELLO|2").hears("WELCOME|0|64|65536|00000000")
		cut := s.connect(t, 0).say("GET_WINNERS|2", "GET_WINNERS|2")
		if err := cut.conn.(*tls.Conn).NetConn().(cutSocket).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := cut.conn.Read(make([]byte, 1)); !errors.Is(err, channel.ErrCut) {
			t.Errorf("who was cut hears %v", err)
		}
		awaitThat(t, "the end of the one that was cut", func() bool { return s.front.Connections() == 2 })
		b.say("GET_WINNERS|2").hears("")
		a.hears("").hearsTheEnd()
		b.close()
		s.stop()
	}
}

// tricklingConn takes no more than it likes, and keeps what it took.
type tricklingConn struct {
	Conn // nil
	took bytes.Buffer
	room func() int
}

func (c *tricklingConn) Send(p []byte) (int, error) { return c.took.Write(p[:min(len(p), c.room())]) }

// sealedPair is a channel of a server, and its peer.
func sealedPair(t *testing.T) (*channel.Channel, *channeltest.Peer, net.Conn) {
	t.Helper()
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	credentials, err := channel.Open(channel.Files{Certificate: f.Cert, Key: f.Key})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { _ = errors.Join(near.Close(), far.Close()) })
	done := make(chan *channel.Channel, 1)
	go func() {
		c, err := credentials.Handshake(near)
		if err != nil {
			t.Error(err)
		}
		done <- c
	}()
	peer := channeltest.Connect(t, far, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol}})
	return <-done, peer, near
}

// Whatever a socket takes, and whenever the peer asks for new keys, it hears each byte once, in order.
// Not more than one record is sealed ahead.
func TestSecureSocketTrickles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		sealed, peer, near := sealedPair(t)
		under := &tricklingConn{room: func() int { return []int{0, 1, 30, 5000, 1 << 20}[random.IntN(5)] }}
		c := &secureSocket{Conn: under, channel: sealed}
		var b backlog
		var want []byte
		buf := make([]byte, channel.RecordBytesMax)
		for i := range 60 {
			said := bytes.Repeat([]byte{byte(i)}, random.IntN(40_000))
			want = append(want, said...)
			b.add(said, i%2 == 0)
			if random.IntN(3) == 0 {
				sealed.Feed(append(peer.KeyUpdate(true), peer.Says([]byte("x"), 1)...))
				for {
					plain, err := sealed.Next(buf)
					if err != nil {
						t.Fatal(err)
					}
					if len(plain) == 0 {
						break
					}
				}
			}
			if err := b.flush(c); err != nil {
				t.Fatal(err)
			}
			if n := len(sealed.Sealed()); n > channel.RecordBytesMax+4<<10 {
				t.Fatalf("%d bytes are sealed ahead", n)
			}
		}
		for _, room := range []int{1 << 20, 0, 1 << 20} { // the last words come while there is none
			under.room = func() int { return room }
			if room == 0 {
				b.add([]byte("the end"), false)
				want = append(want, "the end"...)
			}
			if err := b.flush(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.flush(c); err != nil || b.bytes != 0 || len(sealed.Sealed()) != 0 {
			t.Fatalf("left: %d and %d bytes, %v", b.bytes, len(sealed.Sealed()), err)
		}
		go func() { _, _ = near.Write(under.took.Bytes()) }() // the pipe is closed if the test fails
		got := make([]byte, len(want))
		if n, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the peer heard %d of %d bytes, %v", n, len(want), err)
		}
	}
}

// A peer that asks for new keys and never reads them is closed: it can't make the server hold them.
func TestKeyUpdateFlood(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	r := newRig(t, testConfig(), lottery.Rules{Agencies: 1}, 1, rigDir, ledger.Options{FS: ledgertest.NewFS(1)}, zap.New(core))
	sealed, peer, _ := sealedPair(t)
	session, _, _ := r.front.Admit(ip("127.0.0.1"))
	session.secure = &secureSocket{channel: sealed}
	r.front.Open(session, &tricklingConn{room: func() int { return 0 }})
	// A frame that is not whole, and a byte of it between the questions: no other limit ends this.
	in := peer.Says([]byte("65000\n"), 10)
	for said := 0; ; said++ {
		if action := r.front.Handler().OnTraffic(&fronttest.Conn{Session: session, In: in}); action == gnet.Close {
			break
		}
		if n := len(sealed.Sealed()); n > 8<<10 {
			t.Fatalf("%d bytes wait for a peer that doesn't read them", n)
		}
		if said > 65000 {
			t.Fatal("it could go on")
		}
		in = append(peer.KeyUpdate(true), peer.Says([]byte("x"), 1)...)
	}
	if n := logs.FilterMessage("tls").Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Handshakes that stand still take a place only as long as nobody else wants it.
func TestStalledHandshakes(t *testing.T) {
	cfg := testConfig()
	cfg.TLSHandshakes = 4
	cfg.ReadTimeout = time.Hour
	s := serveSecure(t, cfg, false)
	var stalled []*net.TCPConn
	for range 3 * cfg.TLSHandshakes {
		c := s.socket(t)
		if _, err := c.Write([]byte{22, 3, 1}); err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, c)
	}
	s.connect(t, 0).say("HELLO|1").hears("WELCOME|0|64|65536|00000000").close()
	// To let it in, the ones before it had to go.
	for _, c := range stalled[:2*cfg.TLSHandshakes] {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("who stood still hears %v", err)
		}
	}
	s.awaitLog(t, "tls", "SERVER_TLS_HANDSHAKES")
	if n := s.front.Broken(LimitHandshakes); n < int64(2*cfg.TLSHandshakes) {
		t.Errorf("%d handshakes made room", n)
	}
	s.stop() // at once, though some still stand
}

// A handshake that doesn't end is closed after the read timeout.
func TestHandshakeTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.ReadTimeout = 50 * time.Millisecond
	s := serveSecure(t, cfg, false)
	c := s.socket(t)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("heard %v", err)
	}
	s.awaitLog(t, "tls", "SERVER_READ_TIMEOUT")
	awaitThat(t, "its end", func() bool { return s.front.Connections() == 0 })
}

// Over a limit, a peer is told so over TLS.
func TestRefusedOverTLS(t *testing.T) {
	cfg := testConfig()
	cfg.ConnectionsMax = 1
	s := serveSecure(t, cfg, false)
	first := s.connect(t, 0).say("HELLO|1").hears("WELCOME|0|64|65536|00000000")
	s.connect(t, 0).hears(codec.CodeTooManyConnections.String()).hearsTheEnd()
	first.say("GET_WINNERS|1").hears("").close()
}
