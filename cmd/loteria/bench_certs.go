package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"loteria/codec"
)

// The kinds of TLS that --tls knows.
const (
	benchTLSOff    = "off"
	benchTLSServer = "server"
	benchTLSMutual = "mutual"
)

// benchCerts are the certificates of a run. Nil stands for a run without TLS.
type benchCerts struct {
	mutual    bool
	dir       string
	authority *authority
	pool      *x509.CertPool
	// key is that of all agencies: a server can't tell, and keys take time.
	key crypto.Signer
}

// newBenchCerts makes an authority, and writes its certificate into dir.
func newBenchCerts(o benchOptions, dir string) (*benchCerts, error) {
	if o.tls == benchTLSOff && !o.peerTLS {
		return nil, nil
	}
	authorityKey, err := generateKey()
	if err != nil {
		return nil, err
	}
	c := &benchCerts{mutual: o.tls == benchTLSMutual, dir: dir, pool: x509.NewCertPool()}
	if c.key, err = generateKey(); err != nil {
		return nil, err
	}
	if c.authority, err = newAuthority("bench", authorityKey, time.Now()); err != nil {
		return nil, err
	}
	c.pool.AddCert(c.authority.cert)
	return c, os.WriteFile(c.path(certsAuthority), encodeCertificate(c.authority.cert), readable)
}

func (c *benchCerts) path(name string) string {
	return filepath.Join(c.dir, certificateFile(name))
}

// settings makes a server's certificate, and returns the variables of a server that listens for agencies
// over TLS on addr, unless it is empty, and connects to its peers over TLS if asked to.
func (c *benchCerts) settings(id int, addr string, peers bool) (settings []string, err error) {
	who := role{codec.IdentityServer, id}
	key, err := generateKey()
	if err != nil {
		return nil, err
	}
	cert, err := c.authority.issue(who, key.Public(), nil, time.Now(), 1)
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	certPath, keyPath := c.path(who.name()), filepath.Join(c.dir, keyFile(who.name()))
	authorityPath := c.path(certsAuthority)
	if err := os.WriteFile(keyPath, text, private); err != nil {
		return nil, err
	}
	if err := os.WriteFile(certPath, encodeCertificate(cert), readable); err != nil {
		return nil, err
	}
	if addr != "" {
		settings = append(settings,
			"SERVER_TLS_ADDR="+addr, "SERVER_TLS_CERT_FILE="+certPath, "SERVER_TLS_KEY_FILE="+keyPath)
	}
	if c.mutual {
		settings = append(settings, "SERVER_TLS_CLIENT_CA_FILE="+authorityPath)
	}
	if peers {
		settings = append(settings, "SERVER_PEER_TLS_CERT_FILE="+certPath,
			"SERVER_PEER_TLS_KEY_FILE="+keyPath, "SERVER_PEER_TLS_CA_FILE="+authorityPath)
	}
	return settings, nil
}

// config is how an agency connects.
func (c *benchCerts) config(id codec.Agency) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: c.pool, ServerName: "localhost",
		NextProtos: []string{codec.TLSProtocol}, DynamicRecordSizingDisabled: true,
	}
	if !c.mutual {
		return config, nil
	}
	cert, err := c.authority.issue(role{codec.IdentityAgency, int(id)}, c.key.Public(), nil, time.Now(), 1)
	if err != nil {
		return nil, fmt.Errorf("certificate of agency %d: %w", id, err)
	}
	config.Certificates = []tls.Certificate{{
		Certificate: [][]byte{cert.Raw}, PrivateKey: c.key, Leaf: cert,
	}}
	return config, nil
}
