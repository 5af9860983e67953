package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"loteria/codec"
)

// ErrIdentity says that a certificate is of no use, or that a peer's names somebody else.
var ErrIdentity = errors.New("no identity of a server")

// Identity is what a server proves itself with, and what it takes others' proofs by. It doesn't
// change once made.
type Identity struct {
	certificate tls.Certificate
	authority   *x509.CertPool
	domain      string
	id          uint64
}

// OpenIdentity reads a server's certificate, its key, and the authority that signs all servers'
// certificates, each from a PEM file. The domain and the id are those of the certificate's URI.
// Errors wrap ErrIdentity, or are the file system's.
func OpenIdentity(certificateFile, keyFile, authorityFile string) (*Identity, error) {
	certificate, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %s with %s: %w", ErrIdentity, certificateFile, keyFile, err)
	}
	pem, err := os.ReadFile(authorityFile)
	if err != nil {
		return nil, err
	}
	i := &Identity{certificate: certificate, authority: x509.NewCertPool()}
	if !i.authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s holds no certificate", ErrIdentity, authorityFile)
	}
	if i.domain, i.id, err = serverOf(certificate.Leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", certificateFile, err)
	}
	return i, nil
}

// ID is the server that the identity is.
func (i *Identity) ID() uint64 { return i.id }

// serverOf reads the identity of a server from its certificate.
func serverOf(leaf *x509.Certificate) (domain string, id uint64, err error) {
	i, err := codec.ParseIdentity(leaf.URIs)
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("%w: %w", ErrIdentity, err)
	case i.Kind != codec.IdentityServer:
		return "", 0, fmt.Errorf("%w: the certificate is for %s: want spiffe://DOMAIN/server/ID", ErrIdentity, i)
	}
	return i.Domain, i.ID, nil
}

// dial is how a connection to server id is made; listen how one is taken. Host names are not looked
// at: an address may name any machine, the certificate says which server answers there.
func (i *Identity) dial(id uint64) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{i.certificate},
		// verify checks the chain and the name instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			got, err := i.verify(state, x509.ExtKeyUsageServerAuth)
			if err == nil && got != id {
				err = fmt.Errorf("%w: server %d answers where server %d should", ErrIdentity, got, id)
			}
			return err
		},
		NextProtos: []string{protocol},
		// Small records are for readers that can use the first bytes of a message.
		DynamicRecordSizingDisabled: true,
	}
}

func (i *Identity) listen() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{i.certificate},
		ClientAuth:   tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := i.verify(state, x509.ExtKeyUsageClientAuth)
			return err
		},
		NextProtos:                  []string{protocol},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

// protocol is negotiated, so that a TLS client that means another server doesn't get past that.
const protocol = "loteria-mesh/1"

// verify returns the server that the peer has proved to be.
func (i *Identity) verify(state tls.ConnectionState, usage x509.ExtKeyUsage) (uint64, error) {
	if state.NegotiatedProtocol != protocol {
		return 0, fmt.Errorf("%w: the peer speaks no %s", ErrIdentity, protocol)
	}
	if len(state.PeerCertificates) == 0 {
		return 0, fmt.Errorf("%w: the peer has no certificate", ErrIdentity)
	}
	leaf, between := state.PeerCertificates[0], x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: i.authority, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	domain, id, err := serverOf(leaf)
	if err == nil && domain != i.domain {
		err = fmt.Errorf("%w: the peer is of domain %s, not %s", ErrIdentity, domain, i.domain)
	}
	return id, err
}
