package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"loteria/codec"
)

const (
	// authorityDays is how long an authority is valid. All files have to be made again after it.
	authorityDays = 3650
	// clockSkew is how far the clock of a machine that checks a new certificate may be behind.
	clockSkew = 5 * time.Minute
	// keyIdentifierBytes is the size of key identifiers, which RFC 7093 takes from a longer hash.
	keyIdentifierBytes = 20
	// serialBits is the size of serial numbers. Random ones of this size need no list of those that
	// are taken.
	serialBits = 128

	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY" // PKCS #8
)

// role is who a certificate is for: a server or an agency with its id.
type role struct {
	kind codec.IdentityKind
	id   int
}

// name is the beginning of the names of the role's files.
func (r role) name() string { return fmt.Sprintf("%s-%d", r.kind, r.id) }

func (r role) identity(domain string) codec.Identity {
	return codec.Identity{Domain: domain, Kind: r.kind, ID: uint64(r.id)}
}

// usages are what the role's certificate is for. Servers also connect to each other.
func (r role) usages() []x509.ExtKeyUsage {
	if r.kind == codec.IdentityServer {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// hosts are the names and addresses under which others connect to the role. Nobody connects to an
// agency. A server has its names in compose files, those of a laptop, and more.
func (r role) hosts(more []string) []string {
	if r.kind != codec.IdentityServer {
		return nil
	}
	hosts := []string{"server", fmt.Sprintf("server%d", r.id), "localhost", "127.0.0.1", "::1"}
	for _, host := range more {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// authority is a certificate authority of one domain.
type authority struct {
	domain string
	cert   *x509.Certificate
	key    crypto.Signer // nil if its file is kept elsewhere
}

// newAuthority makes an authority with a key that is there.
func newAuthority(domain string, key crypto.Signer, now time.Time) (*authority, error) {
	template, err := newTemplate("Loteria development CA", key.Public(), now, authorityDays)
	if err != nil {
		return nil, err
	}
	// The domain, without a path, says whose authority it is.
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: domain}}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.IsCA, template.MaxPathLenZero = true, true
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a := &authority{domain: domain, cert: cert, key: key}
	return a, a.check(now)
}

// check returns an error that wraps errCertsKept unless this is a valid authority of its domain.
func (a *authority) check(now time.Time) error {
	want := (&url.URL{Scheme: "spiffe", Host: a.domain}).String()
	switch {
	case a.key != nil && !samePublicKey(a.key.Public(), a.cert.PublicKey):
		return fmt.Errorf("%w: ca-key.pem is not the key of ca.pem: put the right one back", errCertsKept)
	case !a.cert.IsCA || a.cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%w: ca.pem is not a certificate authority: choose another --out", errCertsKept)
	case !slices.Equal(identities(a.cert), []string{want}):
		return fmt.Errorf("%w: ca.pem is the authority of %q, not of %s: "+
			"name its --domain, or choose another --out", errCertsKept, identities(a.cert), want)
	case now.After(a.cert.NotAfter), now.Before(a.cert.NotBefore):
		return fmt.Errorf("%w: ca.pem is valid from %s to %s: choose another --out",
			errCertsKept, day(a.cert.NotBefore), day(a.cert.NotAfter))
	}
	return nil
}

// issue makes and checks a certificate.
func (a *authority) issue(
	who role, public crypto.PublicKey, more []string, now time.Time, days int,
) (*x509.Certificate, error) {
	template, err := newTemplate(who.name(), public, now, days)
	if err != nil {
		return nil, err
	}
	template.URIs = []*url.URL{who.identity(a.domain).URI()}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = who.usages()
	for _, host := range who.hosts(more) {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := sign(template, a.cert, public, a.key)
	if err != nil {
		return nil, err
	}
	return cert, a.accepts(cert, who, more, now)
}

// accepts returns an error that wraps errCertsKept unless a certificate is what the role needs.
func (a *authority) accepts(
	cert *x509.Certificate, who role, more []string, now time.Time,
) error {
	if want := who.identity(a.domain).String(); !slices.Equal(identities(cert), []string{want}) {
		return fmt.Errorf("%w: %s.pem is of %q, not of %s",
			errCertsKept, who.name(), identities(cert), want)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, usage := range who.usages() { // Verify is content with one of several
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return fmt.Errorf("%w: %s.pem: %w", errCertsKept, who.name(), err)
		}
	}
	for _, host := range who.hosts(more) {
		if err := cert.VerifyHostname(host); err != nil {
			return fmt.Errorf("%w: %s.pem: %w", errCertsKept, who.name(), err)
		}
	}
	return nil
}

// newTemplate has what all certificates have.
func newTemplate(
	name string, public crypto.PublicKey, now time.Time, days int,
) (*x509.Certificate, error) {
	// A serial number is positive, so 0 is left out.
	most := new(big.Int).Lsh(big.NewInt(1), serialBits)
	serial, err := rand.Int(rand.Reader, most.Sub(most, big.NewInt(1)))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(der)
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.AddDate(0, 0, days),
		SubjectKeyId:          hash[:keyIdentifierBytes],
		BasicConstraintsValid: true,
	}, nil
}

func sign(
	template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer,
) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// generateKey makes a key on P-256, which every implementation of TLS 1.3 takes.
func generateKey() (crypto.Signer, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// identities are the URIs of a certificate.
func identities(cert *x509.Certificate) []string {
	list := make([]string, len(cert.URIs))
	for i, uri := range cert.URIs {
		list[i] = uri.String()
	}
	return list
}

func encodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), err
}

// readCertificate returns nil if the file doesn't exist. Other errors wrap errCertsKept.
func readCertificate(dir, name string) (*x509.Certificate, error) {
	der, err := readBlock(dir, name, certificateBlock)
	if der == nil || err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: remove it", errCertsKept, name, err)
	}
	return cert, nil
}

// readKey returns nil if the file doesn't exist. Other errors wrap errCertsKept.
func readKey(dir, name string) (crypto.Signer, error) {
	der, err := readBlock(dir, name, keyBlock)
	if der == nil || err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: remove it", errCertsKept, name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %s has a key that can't sign: remove it", errCertsKept, name)
	}
	return signer, nil
}

// readBlock returns the first PEM block of a file, or nil if the file doesn't exist.
func readBlock(dir, name, kind string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCertsKept, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%w: %s doesn't begin with a PEM block %q: remove it",
			errCertsKept, name, kind)
	}
	return block.Bytes, nil
}

const (
	nameBytesMax  = 253 // of a DNS name
	labelBytesMax = 63
)

// parseHost returns a DNS name or an IP address as certificates have it; ok is false if it is
// neither.
func parseHost(text string) (host string, ok bool) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Unmap().String(), ip.Zone() == ""
	}
	host = strings.ToLower(text)
	return host, isName(host)
}

// isName reports whether a text is a DNS name in lower case. It may have underscores, as the names
// of containers do. Its last label is not a number: 256.1.1.1 is a mistyped address.
func isName(text string) bool {
	label := ""
	for label = range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > labelBytesMax || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(text) <= nameBytesMax && strings.Trim(label, "0123456789") != ""
}

// day is a date for messages.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
