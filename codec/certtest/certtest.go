// Package certtest makes certificates for tests: an authority, and what it signs, whatever that
// says. Command loteria certs makes the real ones.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"loteria/codec"
)

// Domain is whose servers and agencies Server and Agency are.
const Domain = "lottery"

// First and Last are when an authority's time begins and ends. The time of synctest bubbles is
// between them.
var (
	First = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	Last  = time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Authority signs certificates. Its methods may be called from any goroutine.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an authority that is valid for longer than any test takes, in or out of a synctest bubble.
func New(t testing.TB) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: First, NotAfter: Last,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &Authority{key: newKey(t)}
	a.certificate = sign(t, template, template, a.key, a.key)
	return a
}

// Pool is a new pool with the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Paper is what a certificate says.
type Paper struct {
	URIs  []string
	Hosts []string // names and IP addresses
	// NotBefore and NotAfter are when it is valid. If they are zero it is from an hour ago until in
	// an hour.
	NotBefore, NotAfter time.Time
	Usages              []x509.ExtKeyUsage
}

// Server is what the certificate of a server says that answers on this machine, and under more
// names.
func Server(id uint64, more ...string) Paper {
	return Paper{
		URIs:   []string{codec.Identity{Domain: Domain, Kind: codec.IdentityServer, ID: id}.String()},
		Hosts:  append([]string{"localhost", "127.0.0.1", "::1"}, more...),
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// Agency is what the certificate of an agency says.
func Agency(id codec.Agency) Paper {
	return Paper{
		URIs:   []string{codec.Identity{Domain: Domain, Kind: codec.IdentityAgency, ID: uint64(id)}.String()},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// Issue makes a certificate with a new key. Its Leaf is set.
func (a *Authority) Issue(t testing.TB, p Paper) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: p.NotBefore, NotAfter: p.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: p.Usages,
	}
	if p.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if p.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	for _, text := range p.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	for _, host := range p.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key := newKey(t)
	leaf := sign(t, template, a.certificate, key, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Files are the PEM files of a certificate, its key, and the authority that its owner trusts.
type Files struct{ Cert, Key, CA string }

// Files writes a new certificate to a new folder. Its owner trusts the authority trusts.
func (a *Authority) Files(t testing.TB, p Paper, trusts *Authority) Files {
	t.Helper()
	dir := t.TempDir()
	f := Files{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
	}
	f.Write(t, a.Issue(t, p))
	write(t, f.CA, "CERTIFICATE", trusts.certificate.Raw)
	return f
}

// Write replaces the certificate and its key, each at once, and the key first.
func (f Files) Write(t testing.TB, certificate tls.Certificate) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Key, "PRIVATE KEY", der)
	write(t, f.Cert, "CERTIFICATE", certificate.Certificate[0])
}

func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(
	t testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey,
) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
