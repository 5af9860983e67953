package channel

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"loteria/codec"
)

var (
	// ErrCredentials says that a certificate, its key or an authority is of no use.
	ErrCredentials = errors.New("no credentials")
	// ErrIdentity says that a peer has proved to be somebody, but no agency of ours.
	ErrIdentity = errors.New("no identity of an agency")
	// ErrCut says that a connection has ended, but its peer hasn't said so.
	ErrCut = errors.New("the connection was cut")
)

// Files name what a server proves itself with, and what it takes agencies' proofs by. All are PEM.
type Files struct {
	Certificate string // the server's; those that link it with an authority may follow
	Key         string
	ClientCA    string // that has signed the agencies' certificates; empty: agencies show none
}

// Credentials are read from files, and can be read anew while they are used. Any goroutine may call
// their methods.
type Credentials struct {
	files   Files
	current atomic.Pointer[credentials]

	succeeded, failing atomic.Int64 // handshakes

	mu     sync.Mutex // guards failed; held while the files are read
	failed []byte     // the content that was refused last
}

// credentials are what one reading of the files gave. They don't change.
type credentials struct {
	content []byte // of all files
	config  *tls.Config
	expiry  time.Time
}

// Open reads the files. Errors wrap ErrCredentials, or are the file system's.
func Open(files Files) (*Credentials, error) {
	c := &Credentials{files: files}
	content, err := files.read()
	if err != nil {
		return nil, err
	}
	now, err := content.parse(files)
	if err != nil {
		return nil, err
	}
	c.current.Store(now)
	return c, nil
}

// Reload reads the files anew. changed reports whether the credentials are others than before: they
// count for the connections that come from now on. After an error they stay as they were. The same
// useless content is an error only once, unless always is set.
func (c *Credentials) Reload(always bool) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.files.read()
	var now *credentials
	if err == nil {
		if bytes.Equal(content.joined(), c.current.Load().content) {
			c.failed = nil
			return false, nil
		}
		now, err = content.parse(c.files)
	}
	if err != nil {
		failed := append(content.joined(), err.Error()...)
		if !always && bytes.Equal(failed, c.failed) {
			return false, nil
		}
		c.failed = failed
		return false, err
	}
	c.failed = nil
	c.current.Store(now)
	return true, nil
}

// Expiry is when the server's certificate expires.
func (c *Credentials) Expiry() time.Time { return c.current.Load().expiry }

// Mutual reports whether agencies have to show a certificate.
func (c *Credentials) Mutual() bool { return c.files.ClientCA != "" }

// Handshakes is how many handshakes there have been since Open, by result.
func (c *Credentials) Handshakes() map[string]int64 {
	return map[string]int64{"success": c.succeeded.Load(), "fail": c.failing.Load()}
}

// handshake does the server's side of a handshake, as it is done now.
func (c *Credentials) handshake(on net.Conn) (*tls.Conn, codec.Agency, error) {
	secured := tls.Server(on, c.current.Load().config)
	err := secured.Handshake()
	var agency codec.Agency
	if err == nil {
		agency, err = agencyOf(secured.ConnectionState(), "") // the domain has been checked
	}
	if err != nil {
		c.failing.Add(1)
		return nil, 0, err
	}
	c.succeeded.Add(1)
	return secured, agency, nil
}

// content is what is in the files.
type content struct{ certificate, key, clientCA []byte }

func (f Files) read() (c content, err error) {
	read := func(name string) (text []byte) {
		if err == nil && name != "" {
			text, err = os.ReadFile(name)
		}
		return text
	}
	c = content{read(f.Certificate), read(f.Key), read(f.ClientCA)}
	return c, err
}

func (c content) joined() []byte {
	return bytes.Join([][]byte{c.certificate, c.key, c.clientCA}, []byte{0})
}

func (c content) parse(files Files) (*credentials, error) {
	certificate, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s with %s: %w", ErrCredentials, files.Certificate, files.Key, err)
	}
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		NextProtos:             []string{codec.TLSProtocol},
		SessionTicketsDisabled: true,
		// Small records are for browsers, which can show half a page.
		DynamicRecordSizingDisabled: true,
	}
	if files.ClientCA != "" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(c.clientCA) {
			return nil, fmt.Errorf("%w: %s holds no certificate", ErrCredentials, files.ClientCA)
		}
	}
	domain := domainOf(certificate.Leaf)
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol != codec.TLSProtocol {
			return fmt.Errorf("%w: the peer does not speak %s", ErrIdentity, codec.TLSProtocol)
		}
		_, err := agencyOf(state, domain)
		return err
	}
	return &credentials{content: c.joined(), config: config, expiry: certificate.Leaf.NotAfter}, nil
}

// domainOf is the domain that the server's certificate names. Empty: it names none, as those of public
// authorities do. Then agencies may be of any domain: their authority is the one that we were given.
func domainOf(leaf *x509.Certificate) string {
	identity, err := codec.ParseIdentity(leaf.URIs)
	if err != nil {
		return ""
	}
	return identity.Domain
}

// agencyOf is the agency that the peer's certificate names. It is 0 if no certificate was asked for.
// The chain has been verified.
func agencyOf(state tls.ConnectionState, domain string) (codec.Agency, error) {
	if len(state.PeerCertificates) == 0 {
		return 0, nil
	}
	identity, err := codec.ParseIdentity(state.PeerCertificates[0].URIs)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrIdentity, err)
	case identity.Kind != codec.IdentityAgency:
		return 0, fmt.Errorf("%w: the certificate is for %v", ErrIdentity, identity)
	case domain != "" && identity.Domain != domain:
		return 0, fmt.Errorf("%w: the peer is of domain %s, not %s", ErrIdentity, identity.Domain, domain)
	}
	return codec.Agency(identity.ID), nil
}

// Stream is an agency's connection over TLS, for who may wait for it.
type Stream struct {
	*tls.Conn
	agency codec.Agency
	on     *cut
}

// Agency is the one that the peer has proved to be; 0 if nobody has asked.
func (s *Stream) Agency() codec.Agency { return s.agency }

// Read reads what the peer says. Too many records that say nothing are an error.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if useless := s.on.heard(n); useless != nil && !errors.Is(err, io.EOF) {
		return 0, useless
	}
	return n, err
}

// Serve does the server's side of a handshake on conn, and returns what the peer says over TLS. It
// waits for the peer for as long as conn's deadlines allow. conn stays the caller's to close if there
// is an error; see Explain.
func (c *Credentials) Serve(conn net.Conn) (*Stream, error) {
	on := newCut(conn)
	secured, agency, err := c.handshake(on)
	if err != nil {
		return nil, err
	}
	on.over = true
	on.begin()
	return &Stream{secured, agency, on}, nil
}

// Explain says why a handshake has failed, and what to do about it.
func Explain(err error) string {
	text := explain(err)
	if len(text) > explanationMax { // a peer's protocols are in it
		text = text[:explanationMax] + "..."
	}
	return text
}

const explanationMax = 300 // bytes

func explain(err error) string {
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	text := err.Error()
	switch {
	case plain:
		return "what comes is no TLS: is it an agency without AGENCY_TLS_CA_FILE? it may come to SERVER_ADDR"
	case errors.Is(err, io.EOF):
		return "the peer has gone before the end of the handshake"
	case unverified:
		return text + ": is the agency's certificate one of SERVER_TLS_CLIENT_CA_FILE, and valid today?"
	case strings.HasPrefix(text, "tls: client offered only unsupported versions"):
		return text + ": want TLS 1.3"
	case strings.HasPrefix(text, "tls: client didn't provide a certificate"):
		return text + ": want one of SERVER_TLS_CLIENT_CA_FILE: set AGENCY_TLS_CERT_FILE"
	case strings.HasPrefix(text, "remote error"):
		return text + ": the peer takes no certificate such as that of SERVER_TLS_CERT_FILE"
	}
	return text
}
