package agency

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"loteria/codec"
)

// TLS says how a client's connections are secured, and what the agency proves itself with. All files
// are PEM. They are read for every connection, so renewed files count from the next one on.
type TLS struct {
	// CAFile holds the authorities that sign the servers' certificates. It has to be set.
	CAFile string
	// CertFile and KeyFile are for servers that ask for a certificate: the agency's, which those that
	// link it with an authority may follow, and its key. The certificate's one URI has to be
	// spiffe://DOMAIN/agency/ID. Both are empty if the agency has none.
	CertFile, KeyFile string
	// ServerName is the name or the IP address that the servers' certificates have to be for. If it is
	// empty, each server's has to be for the host of the address that was dialled.
	ServerName string
}

// validate says what is missing. It reads no file.
func (t TLS) validate() error {
	switch {
	case t.CAFile == "":
		return fmt.Errorf("%w: WithTLS without a CAFile: "+
			"name the authorities that sign the servers' certificates", ErrOption)
	case (t.CertFile == "") != (t.KeyFile == ""):
		return fmt.Errorf("%w: WithTLS with CertFile %q and KeyFile %q: want both, or none",
			ErrOption, t.CertFile, t.KeyFile)
	}
	return nil
}

// credentials are what one reading of the files gave.
type credentials struct {
	authorities *x509.CertPool
	certificate *tls.Certificate // nil if the agency has none
}

// read reads the files of agency id. Errors wrap ErrCredentials.
func (t TLS) read(id codec.Agency) (credentials, error) {
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return credentials{}, fmt.Errorf("%w: the authorities: %w", ErrCredentials, err)
	}
	c := credentials{authorities: x509.NewCertPool()}
	if !c.authorities.AppendCertsFromPEM(pem) {
		return credentials{}, fmt.Errorf("%w: %s holds no certificate: "+
			"want the authorities that sign the servers' certificates, in PEM", ErrCredentials, t.CAFile)
	}
	if t.CertFile == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return credentials{}, fmt.Errorf("%w: %s with %s: %w; want a certificate and its key, in PEM",
			ErrCredentials, t.CertFile, t.KeyFile, err)
	}
	if err := checkOwn(pair.Leaf, id, time.Now()); err != nil {
		return credentials{}, fmt.Errorf("%w: %s: %w", ErrCredentials, t.CertFile, err)
	}
	c.certificate = &pair
	return c, nil
}

// checkOwn says what a server would not like about agency id's certificate.
func checkOwn(leaf *x509.Certificate, id codec.Agency, now time.Time) error {
	got, err := codec.ParseIdentity(leaf.URIs)
	want := codec.Identity{Domain: got.Domain, Kind: codec.IdentityAgency, ID: uint64(id)}
	switch {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("the certificate is for %s, and this is agency %d: "+
			"give each agency its own certificate", got, id)
	}
	return checkTime(leaf, now)
}

// checkTime says that a certificate has expired, or that its time has not come.
func checkTime(c *x509.Certificate, now time.Time) error {
	second := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired at %s, and it is %s: renew it",
			second(c.NotAfter), second(now))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s, and it is %s: "+
			"check this machine's clock, and that of the authority", second(c.NotBefore), second(now))
	}
	return nil
}

// secure makes conn, which has been dialled at addr, a TLS connection. If it fails, conn is closed.
// proven reports whether the server has asked who this agency is, and been told.
func (t TLS) secure(
	ctx context.Context, conn net.Conn, addr string, own credentials,
) (secured net.Conn, proven bool, err error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    own.authorities,
		ServerName: t.serverName(addr),
		NextProtos: []string{codec.TLSProtocol},
		// Small records are for browsers, which can show half a page.
		DynamicRecordSizingDisabled: true,
	}
	if own.certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			proven = true
			return own.certificate, nil
		}
	}
	c := tls.Client(cutting{conn}, config)
	if err = c.HandshakeContext(ctx); err != nil {
		err = t.explain(err)
	} else if got := c.ConnectionState().NegotiatedProtocol; got != codec.TLSProtocol {
		err = fmt.Errorf("%w: it negotiates the protocol %q, not %s: check the address",
			ErrNoTLS, got, codec.TLSProtocol)
	}
	if err != nil {
		_ = conn.Close() // err says more; the handshake may have closed it
		return nil, false, err
	}
	return secureConn{c}, proven, nil
}

// serverName is what the certificate of the server at addr has to be for.
func (t TLS) serverName(addr string) string {
	if t.ServerName != "" {
		return t.ServerName
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "localhost" // as net.Dial has it
	}
	return host
}

// explain says for people why a handshake has failed.
func (t TLS) explain(err error) error {
	unverified, isUnverified := errors.AsType[*tls.CertificateVerificationError](err)
	_, isPlain := errors.AsType[tls.RecordHeaderError](err)
	_, isNetwork := errors.AsType[net.Error](err)
	switch refused := explainRefusal(err); {
	case isUnverified:
		return fmt.Errorf("%w: %w", ErrServerCertificate, t.explainUnverified(unverified))
	case isPlain:
		return fmt.Errorf("%w: the port speaks plain: use the address of SERVER_TLS_ADDR: %w", ErrNoTLS, err)
	case refused != nil:
		return refused
	case errors.Is(err, errTruncated):
		err = errClosedByServer
	case isAlert(err), !isNetwork:
		return fmt.Errorf("%w: %w; agencies speak TLS 1.3 with %s only: check the address, and what answers there",
			ErrNoTLS, err, codec.TLSProtocol)
	}
	return fmt.Errorf("TLS handshake: %w", err)
}

// explainUnverified says what is wrong with a server's certificate.
func (t TLS) explainUnverified(unverified *tls.CertificateVerificationError) error {
	err := unverified.Err
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, isName := errors.AsType[x509.HostnameError](err)
	switch errTime := checkTime(unverified.UnverifiedCertificates[0], time.Now()); {
	case errTime != nil:
		return errTime
	case isAuthority:
		return fmt.Errorf("%w; no authority in %s has signed it: "+
			"AGENCY_TLS_CA_FILE (WithTLS) has to be the authority of the server", err, t.CAFile)
	case isName:
		return fmt.Errorf("%w; connect to a name that the certificate has, "+
			"or say one in AGENCY_TLS_SERVER_NAME (WithTLS)", err)
	}
	return err
}

// isAlert reports whether err is what the server has said at the end of a TLS connection.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// explainRefusal returns nil unless err is an alert that is about the agency's certificate. In TLS 1.3
// an agency's handshake has ended when the server looks at its certificate, so the alert may be the
// first thing that is read.
func explainRefusal(err error) error {
	if !isAlert(err) {
		return nil
	}
	// crypto/tls has no other way to tell one alert from another.
	text := err.Error()
	switch {
	case strings.Contains(text, "certificate required"):
		return fmt.Errorf("%w: %w; it asks for one and there is none: set AGENCY_TLS_CERT_FILE and "+
			"AGENCY_TLS_KEY_FILE (WithTLS)", ErrCertificateRefused, err)
	case strings.Contains(text, "certificate authority"):
		return fmt.Errorf("%w: %w; it has to be signed by an authority in the server's "+
			"SERVER_TLS_CLIENT_CA_FILE", ErrCertificateRefused, err)
	case strings.Contains(text, "certificate"), strings.Contains(text, "access denied"):
		return fmt.Errorf("%w: %w; the server's log says why", ErrCertificateRefused, err)
	}
	return nil
}

// errTruncated is the end of a connection whose server has not said that it ends. A server that was
// killed leaves it behind, and so does whoever cuts connections on the way.
var errTruncated = errors.New("the connection was cut: it has ended without close_notify")

// cutting is a connection whose end is errTruncated. A tls.Conn would take io.EOF and
// io.ErrUnexpectedEOF between two records for an end that the server has said.
type cutting struct{ net.Conn }

func (c cutting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = errTruncated
	}
	return n, err
}

// closeNotifyMax limits how long a server may take to take the last few bytes. They are no loss.
const closeNotifyMax = 100 * time.Millisecond

// secureConn is a tls.Conn that is closed soon, whatever the server does.
type secureConn struct{ *tls.Conn }

func (c secureConn) Close() error {
	closeSocket := sync.OnceValue(c.NetConn().Close)
	late := time.AfterFunc(closeNotifyMax, func() { _ = closeSocket() }) // the error comes below
	defer late.Stop()
	_ = c.CloseWrite() // says close_notify; a connection that has broken can't
	return closeSocket()
}
