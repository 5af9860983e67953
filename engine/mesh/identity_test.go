package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// paper is what a certificate says.
type paper struct {
	uris      []string
	notBefore time.Duration // from now
	notAfter  time.Duration
	usage     []x509.ExtKeyUsage
}

// of is the usual certificate of a server.
func of(id uint64) paper {
	return paper{
		uris: []string{fmt.Sprintf("spiffe://lottery/server/%d", id)}, notBefore: -time.Hour, notAfter: time.Hour,
		usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// files are the PEM files of a certificate, its key, and the authority that it trusts.
func (a *authority) files(p paper, trusts *authority) (cert, key, ca string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(p.notBefore), NotAfter: time.Now().Add(p.notAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: p.usage,
	}
	for _, uri := range p.uris {
		u, err := url.Parse(uri)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	private := a.newKey()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write("cert", "CERTIFICATE", a.sign(template, a.cert, private).Raw),
		write("key", "PRIVATE KEY", der), write("ca", "CERTIFICATE", trusts.cert.Raw)
}

func (a *authority) identity(p paper, trusts *authority) *Identity {
	a.t.Helper()
	i, err := OpenIdentity(a.files(p, trusts))
	if err != nil {
		a.t.Fatal(err)
	}
	return i
}

func TestOpenIdentity(t *testing.T) {
	a := newAuthority(t)
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
			p := of(1)
			p.uris = test.uris
			i, err := OpenIdentity(a.files(p, a))
			if test.id == 0 {
				if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "want") {
					t.Errorf("error %v", err)
				}
			} else if err != nil || i.ID() != test.id {
				t.Errorf("%v, %v; want server %d", i, err, test.id)
			}
		})
	}
	cert, key, ca := a.files(of(1), a)
	for _, files := range [][3]string{{key, cert, ca}, {cert, key, key}, {cert, ca, ca}, {"nowhere", key, ca}, {cert, key, "nowhere"}} {
		if _, err := OpenIdentity(files[0], files[1], files[2]); err == nil {
			t.Errorf("taken: %v", files)
		}
	}
	_, otherKey, _ := a.files(of(1), a)
	if _, err := OpenIdentity(cert, otherKey, ca); !errors.Is(err, ErrIdentity) {
		t.Errorf("another's key: %v", err)
	}
}

// With identities, servers hear each other, and nobody else: whoever doesn't prove to be the server
// that it says it is gets no message and can send none.
func TestIdentities(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	n := newNet3(t, func(s *Settings) { s.Identity = a.identity(of(s.ID), a) })
	n.connected(1, 2, 3)
	n.meshes[1].Send(2, false, []byte("private"))
	if got := n.inboxes[2].await(t, 1); got[0] != "1: private" {
		t.Errorf("heard %q", got)
	}
	n.stop(2)
	await(t, "the loss", func() bool { return !n.meshes[1].Connected(2) })
	with := func(change func(*paper)) paper {
		p := of(2)
		change(&p)
		return p
	}
	for name, imposter := range map[string]*Identity{
		"another authority's": stranger.identity(of(2), a),
		"expired":             a.identity(with(func(p *paper) { p.notAfter = -time.Minute }), a),
		"not valid yet":       a.identity(with(func(p *paper) { p.notBefore = time.Minute }), a),
		"another server's":    {certificate: a.identity(of(3), a).certificate, authority: a.identity(of(3), a).authority, domain: "lottery", id: 2},
		"another domain's":    a.identity(with(func(p *paper) { p.uris = []string{"spiffe://elsewhere/server/2"} }), a),
		"a server's only":     a.identity(with(func(p *paper) { p.usage = p.usage[:1] }), a),
		"a client's only":     a.identity(with(func(p *paper) { p.usage = p.usage[1:] }), a),
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
		i := a.identity(of(2), a)
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
