package agency

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"loteria/codec"
	"loteria/codec/certtest"
)

// tlsServer serves each connection by TLS, as config says when it comes. addr is the server's address.
func tlsServer(t *testing.T, config func() *tls.Config, handle func(*peer)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := serve(t, func() (net.Conn, error) {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		return tls.Server(conn, config()), nil
	}, handle)
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// hangUp reads until the connection ends, so that a TLS server makes its handshake.
func hangUp(p *peer) { _, _ = p.frame() }

// refusal is a connection that must not be.
type refusal struct {
	server func(*tls.Config) // changes the server's side
	paper  certtest.Paper    // the server's certificate, unless it is the usual one
	agency func(*TLS)        // changes the agency's side
	want   error
	says   []string
}

// Whatever is wrong with a connection, the agency says so in one line, and tries again.
func TestTLSRefusals(t *testing.T) {
	t.Parallel() // it mostly waits
	a, stranger := authority(t), certtest.New(t)
	server := func(change func(*certtest.Paper)) certtest.Paper {
		p := certtest.Server(1)
		change(&p)
		return p
	}
	now := time.Now()
	for name, test := range map[string]refusal{
		"expired": {
			paper: server(func(p *certtest.Paper) { p.NotAfter = now.Add(-time.Minute) }),
			want:  ErrServerCertificate, says: []string{"expired at", "renew it"},
		},
		"not valid yet": {
			paper: server(func(p *certtest.Paper) { p.NotBefore, p.NotAfter = now.Add(time.Minute), now.Add(time.Hour) }),
			want:  ErrServerCertificate, says: []string{"not valid before", "clock"},
		},
		"another authority": {
			agency: func(t *TLS) { t.CAFile = "stranger" },
			want:   ErrServerCertificate, says: []string{"unknown authority", "AGENCY_TLS_CA_FILE"},
		},
		"another name": {
			paper: server(func(p *certtest.Paper) { p.Hosts = []string{"lottery.example"} }),
			want:  ErrServerCertificate, says: []string{"127.0.0.1", "AGENCY_TLS_SERVER_NAME"},
		},
		"another name than is wanted": {
			agency: func(t *TLS) { t.ServerName = "lottery.example" },
			want:   ErrServerCertificate, says: []string{"lottery.example", "localhost"},
		},
		"an agency's certificate": {
			paper: server(func(p *certtest.Paper) { p.Usages = certtest.Agency(1).Usages }),
			want:  ErrServerCertificate, says: []string{"usage"},
		},
		"TLS 1.2": {
			server: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
			want:   ErrNoTLS, says: []string{"version", "TLS 1.3"},
		},
		"another protocol": {
			server: func(c *tls.Config) { c.NextProtos = []string{"h2"} },
			want:   ErrNoTLS, says: []string{"no application protocol", "check the address"},
		},
		"no protocol": {
			server: func(c *tls.Config) { c.NextProtos = nil },
			want:   ErrNoTLS, says: []string{"not loteria/1", "check the address"},
		},
		"plain": {
			server: nil,
			want:   ErrNoTLS, says: []string{"speaks plain", "SERVER_TLS_ADDR"},
		},
		"agency's authority unknown": {
			server: func(c *tls.Config) { c.ClientCAs = stranger.Pool() },
			want:   ErrCertificateRefused, says: []string{"unknown certificate authority", "SERVER_TLS_CLIENT_CA_FILE"},
		},
		"agency has none": {
			agency: func(t *TLS) { t.CertFile, t.KeyFile = "", "" },
			want:   ErrCertificateRefused, says: []string{"certificate required", "AGENCY_TLS_CERT_FILE"},
		},
		"agency's certificate unwanted": {
			server: func(c *tls.Config) {
				c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not that one") }
			},
			want: ErrCertificateRefused, says: []string{"bad certificate", "the server's log"},
		},
		"agency's certificate is too old for the server": {
			server: func(c *tls.Config) { c.Time = func() time.Time { return now.Add(24 * time.Hour) } },
			want:   ErrCertificateRefused, says: []string{"expired certificate", "the server's log"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := serverTLS(t, true)
			if test.paper.URIs != nil {
				config.Certificates = []tls.Certificate{a.Issue(t, test.paper)}
			}
			var addr string
			if name == "plain" {
				n := &tcpNetwork{}
				t.Cleanup(n.listen(t, func(p *peer) {
					_, _ = p.in.ReadByte()
					p.say("ERROR_INVALID_FRAME")
				}))
				addr = n.addr()
			} else {
				if test.server != nil {
					test.server(config)
				}
				addr = tlsServer(t, func() *tls.Config { return config }, hangUp)
			}
			files := a.Files(t, certtest.Agency(testAgency), a)
			secured := TLS{CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key}
			if test.agency != nil {
				test.agency(&secured)
			}
			if secured.CAFile == "stranger" {
				secured.CAFile = stranger.Files(t, certtest.Agency(testAgency), stranger).CA
			}
			logs := newLogBook(slog.LevelInfo)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-logs.warned
				<-logs.warned // it tries again
				cancel()
			}()
			_, err := Dial(ctx, addr, testAgency, WithTLS(secured), WithLogger(slog.New(logs)))
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			for _, line := range logs.all() {
				said, _ := line.value("error").Any().(error)
				if !errors.Is(said, test.want) {
					t.Errorf("%v; want an error that is %v", line, test.want)
				}
				for _, says := range test.says {
					if !strings.Contains(line.String(), says) || strings.Contains(line.String(), "\n") {
						t.Errorf("%v; want one line that says %q", line, says)
					}
				}
			}
		})
	}
}

// What the server refused is in the error of an agency that gives up.
func TestTLSRefusedForTooLong(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		config := serverTLS(t, true)
		t.Cleanup(n.listen(t, func(p *peer) {
			p.conn = tls.Server(p.conn, config)
			p.in.Reset(p.conn)
			hangUp(p)
		}))
		begin := time.Now()
		_, err := Dial(t.Context(), n.addr(), testAgency, append(n.options(), WithTLS(TLS{CAFile: mutualTLS(t).CAFile}), WithRetryFor(10*time.Second))...)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrCertificateRefused) || time.Since(begin) < 10*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// An agency looks at its own files before it connects to anything.
func TestOwnFiles(t *testing.T) {
	a := authority(t)
	now := time.Now()
	agency := func(change func(*certtest.Paper)) certtest.Paper {
		p := certtest.Agency(testAgency)
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		paper  certtest.Paper
		change func(*TLS)
		want   error
		says   string
	}{
		"expired": {
			paper: agency(func(p *certtest.Paper) { p.NotAfter = now.Add(-time.Minute) }), says: "expired at",
		},
		"not valid yet": {
			paper: agency(func(p *certtest.Paper) { p.NotBefore, p.NotAfter = now.Add(time.Minute), now.Add(time.Hour) }),
			says:  "not valid before",
		},
		"another agency's": {paper: certtest.Agency(8), says: "is for spiffe://lottery/agency/8, and this is agency 7"},
		"a server's":       {paper: certtest.Server(7), says: "is for spiffe://lottery/server/7, and this is agency 7"},
		"no name":          {paper: agency(func(p *certtest.Paper) { p.URIs = nil }), says: "0 URIs"},
		"two names": {
			paper: agency(func(p *certtest.Paper) { p.URIs = append(p.URIs, p.URIs[0]) }), says: "2 URIs",
		},
		"no authority":       {change: func(t *TLS) { t.CAFile = "nowhere" }, says: "nowhere"},
		"a key as authority": {change: func(t *TLS) { t.CAFile = t.KeyFile }, says: "holds no certificate"},
		"no certificate":     {change: func(t *TLS) { t.CertFile = "nowhere" }, says: "nowhere"},
		"no key":             {change: func(t *TLS) { t.KeyFile = "nowhere" }, says: "nowhere"},
		"another's key": {
			change: func(tls *TLS) { tls.KeyFile = a.Files(t, certtest.Agency(testAgency), a).Key }, says: "does not match",
		},
		"no CAFile":        {change: func(t *TLS) { *t = TLS{} }, want: ErrOption, says: "without a CAFile"},
		"only a key":       {change: func(t *TLS) { t.CertFile = "" }, want: ErrOption, says: "want both, or none"},
		"only certificate": {change: func(t *TLS) { t.KeyFile = "" }, want: ErrOption, says: "want both, or none"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.paper.URIs == nil && test.change != nil {
				test.paper = certtest.Agency(testAgency)
			}
			files := a.Files(t, test.paper, a)
			secured := TLS{CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key}
			if test.change != nil {
				test.change(&secured)
			}
			want := test.want
			if want == nil {
				want = ErrCredentials
			}
			_, err := Dial(t.Context(), "127.0.0.1:1", testAgency, WithTLS(secured), func(c *config) {
				c.dial = func(context.Context, string) (net.Conn, error) {
					t.Error("it has dialled")
					return nil, errRefused
				}
			})
			if !errors.Is(err, want) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v; want one that is %v and says %q", err, want, test.says)
			}
		})
	}
}

// An agency without TLS that meets a server with it says what to set. It doesn't try again.
func TestServerSpeaksTLS(t *testing.T) {
	for name, answer := range map[string]string{
		"whole":    "\x15\x03\x01\x00\x02\x02\x46",
		"one byte": "\x15",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := start(t, inTurn(func(p *peer) {
				p.expect("HELLO|7")
				if _, err := io.WriteString(p.conn, answer); err != nil {
					t.Error(err)
				}
				p.expectClosed()
			}))
			if !errors.Is(err, ErrSpeaksTLS) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "AGENCY_TLS_CA_FILE") {
				t.Errorf("error %v, want %v", err, ErrSpeaksTLS)
			}
		})
	}
}

// A certificate that the server has asked for stands for the secret. One that it hasn't asked for
// stands for nothing.
func TestCertificateAndSecret(t *testing.T) {
	secret := testSecret(t, sesame)
	secured := mutualTLS(t)
	input, lines := testInput(100)
	b := newBank()
	var conns int
	config := func() *tls.Config {
		conns++
		return serverTLS(t, conns != 2)
	}
	addr := tlsServer(t, config, inTurn(
		func(p *peer) { p.expect("HELLO|7") },
		func(p *peer) {
			p.authenticate(secret, codec.Nonce{1})
			p.expect("HELLO|7")
		},
		b.serve,
	))
	c, err := dial(t, &tcpNetwork{address: addr}, WithTLS(secured), WithSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
}

// Files are read for each connection. While they are no good, the client tries again.
func TestRenewal(t *testing.T) {
	a, next := authority(t), certtest.New(t)
	files := a.Files(t, certtest.Agency(testAgency), a)
	input, lines := testInput(100)
	b := newBank()
	logs := newLogBook(slog.LevelInfo)
	var config atomic.Pointer[tls.Config]
	config.Store(serverTLS(t, true))
	var first atomic.Bool
	first.Store(true)
	addr := tlsServer(t, config.Load, func(p *peer) {
		if !first.Swap(false) {
			b.serve(p)
			return
		}
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, codec.FrameBytesMaxDefault))
		// The agency's certificate is replaced by one of another authority, whose key comes late.
		renewed := next.Issue(t, certtest.Agency(testAgency))
		other := next.Issue(t, certtest.Agency(testAgency))
		files.Write(t, tls.Certificate{Certificate: renewed.Certificate, PrivateKey: other.PrivateKey})
		changed := serverTLS(t, true)
		changed.ClientCAs = next.Pool()
		config.Store(changed)
		go func() {
			<-logs.warned // the connection
			<-logs.warned // the first try
			files.Write(t, renewed)
		}()
	})
	c, err := dial(t, &tcpNetwork{address: addr}, WithTLS(TLS{CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key}), WithLogger(slog.New(logs)))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
	var unusable int
	for _, line := range logs.all() {
		if err, ok := line.value("error").Any().(error); ok && errors.Is(err, ErrCredentials) {
			unusable++
		}
	}
	if unusable == 0 {
		t.Errorf("no try failed for the key: %v", logs.all())
	}
}

// An authority that is replaced counts from the next connection on.
func TestNewAuthority(t *testing.T) {
	a, next := authority(t), certtest.New(t)
	files := a.Files(t, certtest.Agency(testAgency), a)
	input, lines := testInput(100)
	b := newBank()
	var config atomic.Pointer[tls.Config]
	config.Store(serverTLS(t, false))
	var first atomic.Bool
	first.Store(true)
	addr := tlsServer(t, config.Load, func(p *peer) {
		if !first.Swap(false) {
			b.serve(p)
			return
		}
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, codec.FrameBytesMaxDefault))
		text, err := os.ReadFile(next.Files(t, certtest.Agency(testAgency), next).CA)
		if err == nil {
			err = os.WriteFile(files.CA, text, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		changed := serverTLS(t, false)
		changed.Certificates = []tls.Certificate{next.Issue(t, certtest.Server(1))}
		config.Store(changed)
	})
	c, err := dial(t, &tcpNetwork{address: addr}, WithTLS(TLS{CAFile: files.CA}))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
}

// Server names are the host of each address, also of one that only a server has named; or the one
// that was given.
func TestServerNames(t *testing.T) {
	input, lines := testInput(10)
	b := newBank()
	names := make(chan string, 8)
	config := func(hosts ...string) func() *tls.Config {
		own := authority(t).Issue(t, longLived(certtest.Paper{Hosts: hosts, Usages: certtest.Server(1).Usages}))
		return func() *tls.Config {
			c := serverTLS(t, false)
			c.Certificates = nil // a hello without a name would get it
			c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				names <- hello.ServerName
				return &own, nil
			}
			return c
		}
	}
	files := authority(t).Files(t, certtest.Agency(testAgency), authority(t))
	leader := tlsServer(t, config("127.0.0.1"), b.serve)
	_, port, err := net.SplitHostPort(tlsServer(t, config("localhost"), notLeader(leader)))
	if err != nil {
		t.Fatal(err)
	}
	_, lastPort, err := net.SplitHostPort(tlsServer(t, config("localhost"), hangUp))
	if err != nil {
		t.Fatal(err)
	}
	addrs := "localhost:" + port + ",localhost:" + lastPort
	c, err := dial(t, &tcpNetwork{address: addrs}, WithTLS(TLS{CAFile: files.CA}))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
	if first, second := <-names, <-names; first != "localhost" || second != "" {
		t.Errorf("the servers heard %q and %q", first, second) // an address is not in a hello
	}
	only := tlsServer(t, config("lottery.example"), newBank().serve)
	if _, err := dial(t, &tcpNetwork{address: only}, WithTLS(TLS{CAFile: files.CA, ServerName: "lottery.example"})); err != nil {
		t.Error(err)
	}
	for addr, want := range map[string]string{
		"server:1": "server", "[::1]:1": "::1", ":1": "localhost", "127.0.0.1:1": "127.0.0.1",
	} {
		if got := (TLS{}).serverName(addr); got != want {
			t.Errorf("the name of %s is %q, want %q", addr, got, want)
		}
	}
}

// The server hears close_notify when the agency closes, and the agency says when it was cut.
func TestCloseNotify(t *testing.T) {
	logs := newLogBook(slog.LevelInfo)
	b := newBank()
	ends := make(chan error, 1)
	files := authority(t).Files(t, certtest.Agency(testAgency), authority(t))
	network := &tcpNetwork{}
	config := serverTLS(t, false)
	handshake := func(p *peer) {
		p.conn = tls.Server(cutting{p.conn}, config)
		p.in.Reset(p.conn)
	}
	t.Cleanup(network.listen(t, inTurn(
		func(p *peer) {
			raw := p.conn
			handshake(p)
			p.expect("HELLO|7")
			p.say(welcome(nil, 64, codec.FrameBytesMaxDefault))
			if err := raw.(*net.TCPConn).CloseWrite(); err != nil { // a FIN, at the end of a record
				t.Error(err)
			}
			mute(p)
		},
		func(p *peer) {
			handshake(p)
			b.serve(p)
			_, err := p.conn.Read(make([]byte, 1))
			ends <- err
		},
	)))
	c, err := Dial(t.Context(), network.addr(), testAgency, WithTLS(TLS{CAFile: files.CA}), WithLogger(slog.New(logs)))
	if err != nil {
		t.Fatal(err)
	}
	input, lines := testInput(10)
	finish(t, c, b, input, lines)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ends; err != io.EOF {
		t.Errorf("the server hears %v at the end, want close_notify", err)
	}
	if line := logs.all()[0].String(); !strings.Contains(line, "cut") {
		t.Errorf("the agency logs %s", line)
	}
}

// A server that takes the connection and says nothing gets as long as for any answer: many agencies may
// come at once, and each handshake takes it some time.
func TestSilentHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		config := serverTLS(t, true)
		b := newBank()
		logs := newLogBook(slog.LevelInfo)
		t.Cleanup(n.listen(t, inTurn(
			func(p *peer) { _, _ = io.Copy(io.Discard, p.conn) },
			func(p *peer) {
				p.conn = tls.Server(p.conn, config)
				p.in.Reset(p.conn)
				b.serve(p)
			},
		)))
		begin := time.Now()
		if _, err := dial(t, n, WithTLS(mutualTLS(t)), WithLogger(slog.New(logs))); err != nil {
			t.Fatal(err)
		}
		line := logs.all()[0]
		if took := line.at.Sub(begin); took != answerTimeout || !strings.Contains(line.String(), "TLS handshake") {
			t.Errorf("after %v: %v", took, line)
		}
	})
}

// A TLS connection writes by itself when the server changes its key, perhaps hours after the last write.
func TestWriteDeadlineIsLifted(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *memoryNetwork) {
		ours, theirs := net.Pipe()
		c := newConn(ours, codec.ReplyBytesMaxDefault)
		heard := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(theirs, make([]byte, 2))
			heard <- err
		}()
		c.write(t.Context(), []byte{'1'}, time.Second, time.Second)
		time.Sleep(time.Hour)
		if _, err := ours.Write([]byte{'2'}); err != nil {
			t.Error(err)
		}
		if err := errors.Join(<-heard, theirs.Close(), c.close()); err != nil {
			t.Error(err)
		}
	})
}

// A server that reads nothing doesn't keep the agency from closing.
func TestCloseOfStuck(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	server := tls.Server(theirs, serverTLS(t, false))
	handshaken := make(chan error, 1)
	go func() { handshaken <- server.Handshake() }()
	secured, proven, err := TLS{}.secure(t.Context(), ours, "localhost:1", credentials{authorities: authority(t).Pool()})
	if err != nil || proven || <-handshaken != nil {
		t.Fatal(err, proven)
	}
	if err := secured.Close(); err != nil { // a pipe takes no byte that nobody reads
		t.Error(err)
	}
}

// The connection breaks after any byte, also of the handshake, in either direction. No bet is lost or
// stored twice.
func TestTLSCutAnywhere(t *testing.T) {
	t.Parallel() // it mostly waits
	const unlimited = 1 << 30
	const stride = 13 // coprime to all that repeats
	input, lines := testInput(6)
	for direction, limits := range map[string]func(bytes int) (int, int){
		"to the server": func(bytes int) (int, int) { return unlimited, bytes },
		"to the agency": func(bytes int) (int, int) { return bytes, unlimited },
	} {
		t.Run(direction, func(t *testing.T) {
			options := []Option{WithTLS(mutualTLS(t))}
			broken := true
			for bytes := 0; broken; bytes += stride {
				b := newBank()
				var cut *cutConn
				inBubble(t, func(t *testing.T, n *memoryNetwork) {
					mutual := serverTLS(t, true)
					c := mustStartOn(t, n, func(p *peer) {
						p.conn = tls.Server(p.conn, mutual)
						p.in.Reset(p.conn)
						b.serve(p)
					}, append(options, WithBatchBets(2), WithWindow(2), func(cfg *config) {
						cfg.dial = func(ctx context.Context, addr string) (net.Conn, error) {
							conn, err := n.dial(ctx, addr)
							if err == nil && cut == nil {
								cut = &cutConn{Conn: conn}
								cut.readLeft, cut.writeLeft = limits(bytes)
								conn = cut
							}
							return conn, err
						}
					})...)
					if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
						t.Fatalf("cut at %d: %v", bytes, err)
					}
					if _, err := c.Winners(t.Context()); err != nil {
						t.Fatalf("cut at %d: %v", bytes, err)
					}
				})
				b.check(t, lines)
				broken = cut.broken
			}
		})
	}
}
