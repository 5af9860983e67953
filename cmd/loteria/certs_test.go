package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"loteria/engine/settings"
)

// certsNow is when the certificates of these tests are made.
var certsNow = time.Date(2026, time.November, 23, 10, 0, 0, 0, time.UTC)

// certsIn are the options for 3 servers and 5 agencies.
func certsIn(dir string) certsOptions {
	return certsOptions{
		out: dir, servers: 3, agencies: 5, domain: "loteria", days: certsDaysDefault,
	}
}

// mustMakeCerts runs `loteria certs` at a time and returns what it says.
func mustMakeCerts(t *testing.T, options certsOptions, now time.Time) string {
	t.Helper()
	var out bytes.Buffer
	if err := runCerts(t.Context(), options, now, &out, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// folderContent returns the content of a folder's files by name. A folder that doesn't exist has
// none.
func folderContent(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		if !entry.IsDir() {
			files[entry.Name()] = readText(t, filepath.Join(dir, entry.Name()))
		}
	}
	return files
}

func certificateIn(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	cert, err := readCertificate(dir, name)
	if err != nil || cert == nil {
		t.Fatalf("%s: %v, %v", name, cert, err)
	}
	return cert
}

// verifyAt verifies a certificate for one usage as a peer does that trusts only ca.pem.
func verifyAt(t *testing.T, dir, name string, usage x509.ExtKeyUsage, now time.Time) error {
	t.Helper()
	_, err := certificateIn(t, dir, name).Verify(x509.VerifyOptions{
		Roots: rootsIn(t, dir), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func rootsIn(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readText(t, filepath.Join(dir, "ca.pem")))) {
		t.Fatal("ca.pem has no certificate")
	}
	return roots
}

// Each file is what its name says: who it is for, what it may be used for, until when, under which
// names it is reached, and who may read it.
func TestCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	options := certsIn(dir)
	options.hosts = []string{
		"Lottery.example.org", "localhost", "192.0.2.7", "2001:db8::7", "server_b",
	}
	options.domain = "lottery.example"
	mustMakeCerts(t, options, certsNow)

	const server, client = x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	more := []string{"lottery.example.org", "server_b"}
	for _, test := range []struct {
		name     string
		identity string
		usages   []x509.ExtKeyUsage
		names    []string
		ips      []string
		wrong    []x509.ExtKeyUsage
	}{
		{"server-1", "spiffe://lottery.example/server/1", []x509.ExtKeyUsage{server, client},
			append([]string{"server", "server1", "localhost"}, more...),
			[]string{"127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}},
		{"server-3", "spiffe://lottery.example/server/3", []x509.ExtKeyUsage{server, client},
			append([]string{"server", "server3", "localhost"}, more...),
			[]string{"127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}},
		{"agency-1", "spiffe://lottery.example/agency/1", []x509.ExtKeyUsage{client}, nil, nil,
			[]x509.ExtKeyUsage{server}},
		{"agency-5", "spiffe://lottery.example/agency/5", []x509.ExtKeyUsage{client}, nil, nil,
			[]x509.ExtKeyUsage{server}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cert, file := certificateIn(t, dir, test.name+".pem"), test.name+".pem"
			if got := identities(cert); !slices.Equal(got, []string{test.identity}) {
				t.Errorf("URIs %q, want exactly %q", got, test.identity)
			}
			if !slices.Equal(cert.DNSNames, test.names) {
				t.Errorf("names %q, want %q", cert.DNSNames, test.names)
			}
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			if !slices.Equal(ips, test.ips) || len(cert.EmailAddresses) != 0 {
				t.Errorf("addresses %q and %q, want %q", ips, cert.EmailAddresses, test.ips)
			}
			if !slices.Equal(cert.ExtKeyUsage, test.usages) || len(cert.UnknownExtKeyUsage) != 0 ||
				cert.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("usages %v, %v", cert.ExtKeyUsage, cert.KeyUsage)
			}
			for _, usage := range test.usages {
				if err := verifyAt(t, dir, file, usage, certsNow); err != nil {
					t.Errorf("usage %v: %v", usage, err)
				}
			}
			for _, usage := range test.wrong {
				var invalid x509.CertificateInvalidError
				err := verifyAt(t, dir, file, usage, certsNow)
				if !errors.As(err, &invalid) || invalid.Reason != x509.IncompatibleUsage {
					t.Errorf("usage %v: %v, want an incompatible usage", usage, err)
				}
			}
			wantCertAndKey(t, dir, test.name)
			if cert.IsCA || cert.NotAfter != certsNow.AddDate(0, 0, 365) {
				t.Errorf("IsCA %v, until %v", cert.IsCA, cert.NotAfter)
			}
		})
	}
	t.Run("ca", func(t *testing.T) {
		cert := certificateIn(t, dir, "ca.pem")
		if !cert.IsCA || !cert.MaxPathLenZero || cert.MaxPathLen != 0 ||
			cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("IsCA %v, path length %d, usage %v", cert.IsCA, cert.MaxPathLen, cert.KeyUsage)
		}
		if got := identities(cert); !slices.Equal(got, []string{"spiffe://lottery.example"}) {
			t.Errorf("URIs %q", got)
		}
		if years := cert.NotAfter.Year() - certsNow.Year(); years != 10 {
			t.Errorf("valid for %d years", years)
		}
		wantCertAndKey(t, dir, "ca")
	})
}

// wantCertAndKey checks what is common to all certificates and their keys.
func wantCertAndKey(t *testing.T, dir, name string) {
	t.Helper()
	cert, ca := certificateIn(t, dir, name+".pem"), certificateIn(t, dir, "ca.pem")
	// TLS takes the pair as the files are, and compares their keys.
	pair, err := tls.LoadX509KeyPair(
		filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("key %T", pair.PrivateKey)
	}
	if cert.NotBefore != certsNow.Add(-5*time.Minute) {
		t.Errorf("valid from %v", cert.NotBefore)
	}
	if bits := cert.SerialNumber.BitLen(); cert.SerialNumber.Sign() <= 0 || bits > 128 || bits < 64 {
		t.Errorf("serial number %v", cert.SerialNumber)
	}
	if len(cert.SubjectKeyId) != 20 || !cert.BasicConstraintsValid {
		t.Errorf("key identifier %x, constraints %v", cert.SubjectKeyId, cert.BasicConstraintsValid)
	}
	if name != "ca" && !bytes.Equal(cert.AuthorityKeyId, ca.SubjectKeyId) {
		t.Errorf("authority %x, want %x", cert.AuthorityKeyId, ca.SubjectKeyId)
	}
	for file, mode := range map[string]fs.FileMode{name + ".pem": 0o644, name + "-key.pem": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", file, info.Mode(), err, mode)
		}
	}
}

// No two certificates have the same identity, key or serial number, and one of another authority is
// not taken.
func TestCertsAreDifferent(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	seen := map[string]string{}
	for _, in := range []string{dir, other} {
		mustMakeCerts(t, certsIn(in), certsNow)
		for name := range folderContent(t, in) {
			if strings.HasSuffix(name, "-key.pem") {
				continue
			}
			cert := certificateIn(t, in, name)
			for _, unique := range []string{
				in + identities(cert)[0], cert.SerialNumber.String(), string(cert.SubjectKeyId),
			} {
				if before, twice := seen[unique]; twice {
					t.Errorf("%s and %s/%s share %q", before, in, name, unique)
				}
				seen[unique] = in + "/" + name
			}
		}
	}
	if len(seen) != 2*3*(1+3+5) {
		t.Errorf("%d different values", len(seen))
	}
	_, err := certificateIn(t, other, "agency-1.pem").Verify(x509.VerifyOptions{
		Roots: rootsIn(t, dir), CurrentTime: certsNow,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		t.Errorf("another authority's certificate: %v", err)
	}
}

// A certificate is valid from five minutes before it was made, for peers whose clock is behind, to
// the end of its days. A run after that says what to do, and --renew does it, for the same keys.
func TestCertsExpire(t *testing.T) {
	dir := t.TempDir()
	options := certsIn(dir)
	options.days = 30
	mustMakeCerts(t, options, certsNow)
	end := certsNow.AddDate(0, 0, 30)
	for _, test := range []struct {
		now   time.Time
		valid bool
	}{
		{certsNow.Add(-5*time.Minute - time.Second), false},
		{certsNow.Add(-5 * time.Minute), true},
		{end, true},
		{end.Add(time.Second), false},
	} {
		for _, name := range []string{"server-1.pem", "agency-1.pem"} {
			err := verifyAt(t, dir, name, x509.ExtKeyUsageClientAuth, test.now)
			var invalid x509.CertificateInvalidError
			expired := errors.As(err, &invalid) && invalid.Reason == x509.Expired
			if test.valid && err != nil || !test.valid && !expired {
				t.Errorf("%s at %v: %v", name, test.now, err)
			}
		}
	}

	before := folderContent(t, dir)
	later := end.Add(time.Hour)
	err := runCerts(t.Context(), options, later, io.Discard, io.Discard)
	if !errors.Is(err, errCertsKept) || !strings.Contains(err.Error(), "--renew") {
		t.Errorf("a run after the end: %v", err)
	}
	if !maps.Equal(folderContent(t, dir), before) {
		t.Error("the run that failed changed files")
	}
	options.renew = true
	mustMakeCerts(t, options, later)
	for name, content := range folderContent(t, dir) {
		kept := strings.HasSuffix(name, "-key.pem") || name == "ca.pem"
		if (content == before[name]) != kept {
			t.Errorf("%s: kept %v, want %v", name, content == before[name], kept)
		}
	}
	if err := verifyAt(t, dir, "server-3.pem", x509.ExtKeyUsageServerAuth, later); err != nil {
		t.Error(err)
	}
	options.renew = false
	mustMakeCerts(t, options, later) // nothing to complain about

	// The authority ends, too: first nothing may outlive it, then it can't be used.
	decade := certsNow.AddDate(0, 0, authorityDays)
	for _, test := range []struct {
		now  time.Time
		days int
		says string
	}{
		{decade.AddDate(0, 0, -10), 11, "ca.pem ends on 2036-11-20, before certificates of 11 days"},
		{decade.Add(time.Second), 1,
			"ca.pem is valid from 2026-11-23 to 2036-11-20: choose another --out"},
	} {
		options.days, options.renew = test.days, true
		err := runCerts(t.Context(), options, test.now, io.Discard, io.Discard)
		if !errors.Is(err, errCertsKept) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%d days at %v: %v, want %q", test.days, test.now, err, test.says)
		}
	}
	options.days = 10
	mustMakeCerts(t, options, decade.AddDate(0, 0, -10))
}

// A server takes an agency or another server that shows its certificate in TLS 1.3, and knows who
// it is. It refuses one without a certificate and one of another authority, and nobody takes an
// agency for a server.
func TestCertsInTLS(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	mustMakeCerts(t, certsIn(dir), certsNow)
	mustMakeCerts(t, certsIn(other), certsNow)
	load := func(dir, name string) []tls.Certificate {
		if name == "" {
			return nil
		}
		pair, err := tls.LoadX509KeyPair(
			filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	for _, test := range []struct {
		name           string
		server, client string
		clientDir      string
		host           string
		now            time.Time
		identity       string // of the client
		says           string // why the handshake fails
	}{
		{"agency", "server-1", "agency-2", dir, "server", certsNow, "spiffe://loteria/agency/2", ""},
		{"its own name", "server-2", "agency-3", dir, "server2", certsNow,
			"spiffe://loteria/agency/3", ""},
		{"server", "server-3", "server-1", dir, "server3", certsNow, "spiffe://loteria/server/1", ""},
		{"laptop", "server-3", "agency-1", dir, "127.0.0.1", certsNow, "spiffe://loteria/agency/1", ""},
		{"laptop, IPv6", "server-3", "agency-1", dir, "::1", certsNow, "spiffe://loteria/agency/1", ""},
		{"another server's name", "server-1", "agency-1", dir, "server2", certsNow, "",
			"certificate is valid for server, server1, localhost, not server2"},
		{"agency as a server", "agency-1", "agency-2", dir, "localhost", certsNow, "",
			"certificate is not valid for any names"},
		{"another authority", "server-1", "agency-1", other, "server", certsNow, "",
			"failed to verify certificate: x509: certificate signed by unknown authority"},
		{"no certificate", "server-1", "", dir, "server", certsNow, "",
			"client didn't provide a certificate"},
		{"expired", "server-1", "agency-1", dir, "server", certsNow.AddDate(0, 0, 366), "",
			"certificate has expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock := func() time.Time { return test.now }
			here, there := net.Pipe()
			for _, conn := range []net.Conn{here, there} {
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(eventTimeout)); err != nil {
					t.Fatal(err)
				}
			}
			server := tls.Server(here, &tls.Config{
				MinVersion: tls.VersionTLS13, Time: clock, Certificates: load(dir, test.server),
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: rootsIn(t, dir),
			})
			// The client sends a certificate whatever authorities the server names.
			shown := &tls.Certificate{}
			if pairs := load(test.clientDir, test.client); pairs != nil {
				shown = &pairs[0]
			}
			client := tls.Client(there, &tls.Config{
				MinVersion: tls.VersionTLS13, Time: clock, RootCAs: rootsIn(t, dir), ServerName: test.host,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return shown, nil
				},
			})
			// The client reads first: this is how it learns that its certificate is refused.
			const word = "hello"
			got := make([]byte, len(word))
			read := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(client, got)
				read <- err
			}()
			_, errServer := io.WriteString(server, word)
			errClient := <-read
			if test.says != "" {
				both := fmt.Sprint(errServer, errClient)
				if errServer == nil || errClient == nil || !strings.Contains(both, test.says) {
					t.Errorf("server: %v, client: %v; want both to fail, %q",
						errServer, errClient, test.says)
				}
				return
			}
			if errServer != nil || errClient != nil || string(got) != word {
				t.Fatalf("server: %v, client: %v, %q", errServer, errClient, got)
			}
			state := server.ConnectionState()
			if who := identities(state.PeerCertificates[0]); state.Version != tls.VersionTLS13 ||
				!slices.Equal(who, []string{test.identity}) {
				t.Errorf("version %x, client %q, want %q", state.Version, who, test.identity)
			}
		})
	}
}

// A run with more servers and agencies keeps every file byte for byte, and says so. Fewer are fine.
func TestCertsKeepWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	options := certsIn(dir)
	made := mustMakeCerts(t, options, certsNow)
	want := fmt.Sprintf(`%[1]s/ca.pem: made, valid until 2036-11-20
%[1]s/server-<id>.pem: made 1, 2, 3, valid until 2027-11-23
%[1]s/agency-<id>.pem: made 1, 2, 3, 4, 5, valid until 2027-11-23
for development only: whoever reads %[1]s/ca-key.pem can be every server and every agency
`, dir)
	if made != want {
		t.Errorf("it said:\n%s\nwant:\n%s", made, want)
	}
	before := folderContent(t, dir)
	if len(before) != 2*(1+3+5) {
		t.Errorf("%d files", len(before))
	}
	// A certificate may be for more than is asked now: for longer, or under more names.
	fewer := certsIn(dir)
	fewer.servers, fewer.agencies, fewer.days = 0, 1, 1
	mustMakeCerts(t, fewer, certsNow)
	mustMakeCerts(t, options, certsNow.Add(time.Hour))
	if !maps.Equal(folderContent(t, dir), before) {
		t.Error("a run with nothing to make changed files")
	}

	options.servers, options.agencies, options.hosts = 4, 25, nil
	said := mustMakeCerts(t, options, certsNow.AddDate(0, 0, 1))
	for _, line := range []string{
		"/ca.pem: kept, valid until 2036-11-20\n",
		"/server-<id>.pem: kept 1, 2, 3, valid until 2027-11-23\n",
		"/server-<id>.pem: made 4, valid until 2027-11-24\n",
		"/agency-<id>.pem: made 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, " +
			"16, 17, 18, 19, 20, 21, 22, 23, 24, 25, valid until 2027-11-24\n",
	} {
		if !strings.Contains(said, line) {
			t.Errorf("it said:\n%swithout %q", said, line)
		}
	}
	after := folderContent(t, dir)
	if len(after) != 2*(1+4+25) {
		t.Errorf("%d files", len(after))
	}
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s has changed", name)
		}
	}
	later := certsNow.AddDate(0, 0, 1)
	if err := verifyAt(t, dir, "agency-25.pem", x509.ExtKeyUsageClientAuth, later); err != nil {
		t.Error(err)
	}
}

// Whatever is missing is made, unless it can't be. Whatever doesn't fit is an error that says what
// to do. Then no file is written.
func TestCertsWithOtherFiles(t *testing.T) {
	type files = map[string]string
	const garbage = "no PEM\n"
	pemOf := func(kind string) string {
		return "-----BEGIN " + kind + "-----\nAAAA\n-----END " + kind + "-----\n"
	}
	renew := func(servers, agencies int) func(*certsOptions) {
		return func(o *certsOptions) { o.renew, o.servers, o.agencies = true, servers, agencies }
	}
	other := t.TempDir()
	mustMakeCerts(t, certsIn(other), certsNow)
	others := folderContent(t, other)
	for _, test := range []struct {
		name   string
		files  files // to be changed; "": to be removed
		with   func(*certsOptions)
		change []string // files that are made or replaced
		says   string   // an error
	}{
		{"a pair", files{"agency-2.pem": "", "agency-2-key.pem": ""}, nil,
			[]string{"agency-2.pem", "agency-2-key.pem"}, ""},
		{"a certificate", files{"server-2.pem": ""}, nil, []string{"server-2.pem"}, ""},
		{"a certificate, and --renew", files{"server-2.pem": ""}, renew(2, 0),
			[]string{"server-1.pem", "server-2.pem"}, ""},
		{"a key", files{"server-2-key.pem": ""}, nil, nil,
			"server-2.pem is there without server-2-key.pem, its key: " +
				"make the certificate anew with --renew"},
		{"a key, and --renew", files{"server-1-key.pem": ""}, renew(1, 0),
			[]string{"server-1.pem", "server-1-key.pem"}, ""},

		{"the authority's certificate", files{"ca.pem": ""}, nil, []string{"ca.pem"}, ""},
		{"the authority's key", files{"ca-key.pem": ""}, nil, nil, ""},
		{"the authority's key, and more is asked for", files{"ca-key.pem": ""},
			func(o *certsOptions) { o.agencies++ }, nil,
			"nothing can be signed without ca-key.pem: put it back"},
		{"the authority", files{"ca.pem": "", "ca-key.pem": ""}, nil, nil,
			"server-1.pem: x509: certificate signed by unknown authority"},
		{"the authority, and --renew", files{"ca.pem": "", "ca-key.pem": ""}, renew(1, 1),
			[]string{"ca.pem", "ca-key.pem", "server-1.pem", "agency-1.pem"}, ""},
		{"another authority's key", files{"ca-key.pem": others["ca-key.pem"]}, nil, nil,
			"ca-key.pem is not the key of ca.pem: put the right one back"},
		{"another authority",
			files{"ca.pem": others["ca.pem"], "ca-key.pem": others["ca-key.pem"]}, nil, nil,
			"server-1.pem: x509: certificate signed by unknown authority"},
		{"no authority",
			files{"ca.pem": others["server-1.pem"], "ca-key.pem": others["server-1-key.pem"]}, nil, nil,
			"ca.pem is not a certificate authority: choose another --out"},

		{"another domain", nil, func(o *certsOptions) { o.domain = "other" }, nil,
			`ca.pem is the authority of ["spiffe://loteria"], not of spiffe://other: ` +
				"name its --domain, or choose another --out"},
		{"another domain, and --renew", nil,
			func(o *certsOptions) { o.domain, o.renew = "other", true }, nil,
			"name its --domain, or choose another --out"},
		{"another host", nil, func(o *certsOptions) { o.hosts = []string{"other"} }, nil,
			"server-1.pem: x509: certificate is valid for server, server1, localhost, not other"},
		{"another host, and --renew", nil,
			func(o *certsOptions) { renew(1, 0)(o); o.hosts = []string{"other"} },
			[]string{"server-1.pem"}, ""},

		{"another agency's",
			files{"agency-1.pem": "agency-2.pem", "agency-1-key.pem": "agency-2-key.pem"}, nil, nil,
			`agency-1.pem is of ["spiffe://loteria/agency/2"], not of spiffe://loteria/agency/1: make`},
		{"a server's for an agency",
			files{"agency-1.pem": "server-1.pem", "agency-1-key.pem": "server-1-key.pem"}, nil, nil,
			`agency-1.pem is of ["spiffe://loteria/server/1"], not of`},
		{"another agency's key", files{"agency-1-key.pem": "agency-2-key.pem"}, nil, nil,
			"agency-1.pem is not for the key in agency-1-key.pem: " +
				"make the certificate anew with --renew"},

		{"not a certificate", files{"agency-1.pem": garbage}, nil, nil,
			`agency-1.pem doesn't begin with a PEM block "CERTIFICATE": remove it`},
		{"not a certificate, and --renew", files{"agency-1.pem": garbage}, renew(0, 1),
			[]string{"agency-1.pem"}, ""},
		{"not a key, and --renew", files{"agency-1-key.pem": garbage}, renew(0, 1), nil,
			`agency-1-key.pem doesn't begin with a PEM block "PRIVATE KEY": remove it`},
		{"a broken certificate", files{"ca.pem": pemOf("CERTIFICATE")}, nil, nil,
			"ca.pem: x509: malformed certificate: remove it"},
		{"a broken key", files{"ca-key.pem": pemOf("PRIVATE KEY")}, nil, nil, "ca-key.pem: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			options := certsIn(dir)
			mustMakeCerts(t, options, certsNow)
			made := folderContent(t, dir)
			for name, content := range test.files {
				path := filepath.Join(dir, name)
				if content == "" {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if another, ok := made[content]; ok {
					content = another
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := folderContent(t, dir)
			if test.with != nil {
				test.with(&options)
			}
			err := runCerts(t.Context(), options, certsNow, io.Discard, io.Discard)
			if test.says == "" && err != nil || test.says != "" && (!errors.Is(err, errCertsKept) ||
				exitCode(err) != exitInput || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			after := folderContent(t, dir)
			for name, content := range after {
				if changed := content != before[name]; changed != slices.Contains(test.change, name) {
					t.Errorf("%s: changed %v", name, changed)
				}
				delete(before, name)
			}
			if len(before) != 0 {
				t.Errorf("%d files are gone", len(before))
			}
			if err != nil {
				return
			}
			// What was made fits: a run after it finds nothing to complain about.
			options.renew = false
			mustMakeCerts(t, options, certsNow)
			if !maps.Equal(folderContent(t, dir), after) {
				t.Error("a run after it changed files")
			}
		})
	}
}

// stoppingContext is done when it has been asked so many times.
type stoppingContext struct {
	context.Context
	left int
}

func (c *stoppingContext) Err() error {
	if c.left == 0 {
		return context.Canceled
	}
	c.left--
	return nil
}

// A run that is stopped leaves whole pairs of files, and the next one makes the others.
func TestCertsAreStopped(t *testing.T) {
	for left := range 3 + 5 {
		dir := t.TempDir()
		options := certsIn(dir)
		ctx := &stoppingContext{t.Context(), left}
		err := runCerts(ctx, options, certsNow, io.Discard, io.Discard)
		if !errors.Is(err, context.Canceled) || exitCode(err) != exitDone ||
			!strings.Contains(err.Error(), "run again for the rest") {
			t.Errorf("stopped after %d: %v", left, err)
		}
		before := folderContent(t, dir)
		if len(before) != 2*(1+left) {
			t.Errorf("stopped after %d: %d files", left, len(before))
		}
		mustMakeCerts(t, options, certsNow)
		after := folderContent(t, dir)
		if len(after) != 2*(1+3+5) {
			t.Errorf("stopped after %d: %d files in the end", left, len(after))
		}
		for name, content := range before {
			if after[name] != content {
				t.Errorf("stopped after %d: %s has changed", left, name)
			}
		}
	}
}

// Runs at the same time don't mix their files: each makes a pair or fails, and says to run again.
func TestCertsOfTwoRuns(t *testing.T) {
	const runs = 4
	for range 5 {
		dir := filepath.Join(t.TempDir(), "certs")
		options := certsIn(dir)
		var wg sync.WaitGroup
		errs := make([]error, runs)
		for i := range runs {
			wg.Go(func() {
				errs[i] = runCerts(t.Context(), options, certsNow, io.Discard, io.Discard)
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil && !errors.Is(err, errCertsKept) {
				t.Error(err)
			}
		}
		mustMakeCerts(t, options, certsNow) // which checks what is there
		if files := folderContent(t, dir); len(files) != 2*(1+3+5) {
			t.Errorf("%d files: %q", len(files), slices.Sorted(maps.Keys(files)))
		}
	}
}

// A file that can't be written is an error of storage, and no half of it stays.
func TestCertsCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	// A link that leads nowhere is not there for a reader, and there for a writer.
	if err := os.Symlink("nowhere", filepath.Join(dir, "server-2-key.pem")); err != nil {
		t.Fatal(err)
	}
	err := runCerts(t.Context(), certsIn(dir), certsNow, io.Discard, io.Discard)
	if !errors.Is(err, errCertsKept) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	want := []string{"ca-key.pem", "ca.pem", "server-1-key.pem", "server-1.pem", "server-2-key.pem"}
	if !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}

	file := filepath.Join(dir, "ca.pem")
	for _, out := range []string{file, filepath.Join(file, "folder")} {
		err := runCerts(t.Context(), certsIn(out), certsNow, io.Discard, io.Discard)
		if !errors.Is(err, errCertsKept) || exitCode(err) != exitInput {
			t.Errorf("--out %s: %v", out, err)
		}
	}
	// Nothing can be made in /proc, not even by root.
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skipf("this machine has no /proc, in which no folder can be made: %v", err)
	}
	err = runCerts(t.Context(), certsIn("/proc/loteria-certs"), certsNow, io.Discard, io.Discard)
	if !errors.Is(err, errCertsWrite) || exitCode(err) != exitStorage {
		t.Errorf("a folder that can't be made: %v", err)
	}
}

func TestCertsRefuseBadFlags(t *testing.T) {
	out := filepath.Join(t.TempDir(), "certs")
	long := strings.Repeat("a", labelBytesMax)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"--servers", "-1"}, "--servers=-1 is not legal: want 0 to 100"},
		{[]string{"--servers", "101"}, "--servers=101 is not legal: want 0 to 100"},
		{[]string{"--agencies", "-1"}, "--agencies=-1 is not legal: want 0 to 100000"},
		{[]string{"--agencies", "100001"}, "--agencies=100001 is not legal: want 0 to 100000"},
		{[]string{"--agencies", "all"}, "invalid argument"},
		{[]string{"--days", "0"}, "--days=0 is not legal: want 1 to 825"},
		{[]string{"--days", "826"}, "--days=826 is not legal: want 1 to 825"},
		{[]string{"--out", ""}, "--out= is not legal: want a folder"},
		{[]string{"--domain", ""}, "--domain= is not legal: want a DNS name in small letters"},
		{[]string{"--domain", "Loteria"}, "--domain=Loteria is not legal"},
		{[]string{"--domain", "a/b"}, "--domain=a/b is not legal"},
		{[]string{"--domain", "::1"}, "--domain=::1 is not legal"},
		{[]string{"--domain", "a..b"}, "--domain=a..b is not legal"},
		{[]string{"--host", ""}, "--host= is not legal: want a DNS name or an IP address"},
		{[]string{"--host", "a,b"}, "--host=a,b is not legal"},
		{[]string{"--host", "a:12345"}, "--host=a:12345 is not legal"},
		{[]string{"--host", "[::1]"}, "--host=[::1] is not legal"},
		{[]string{"--host", "fe80::1%eth0"}, "--host=fe80::1%eth0 is not legal"},
		{[]string{"--host", "256.1.1.1"}, "--host=256.1.1.1 is not legal"},
		{[]string{"--host", "*.example.org"}, "--host=*.example.org is not legal"},
		{[]string{"--host", "lotería"}, "--host=lotería is not legal"},
		{[]string{"--host", "-a"}, "--host=-a is not legal"},
		{[]string{"--host", "a-"}, "--host=a- is not legal"},
		{[]string{"--host", "a."}, "--host=a. is not legal"},
		{[]string{"--host", long + "a"}, "is not legal"},
		{[]string{"--host", strings.Repeat(long+".", 4) + "a"}, "is not legal"},
		{slices.Repeat([]string{"--host", "a"}, certsHostsMax+1),
			"--host=(65 of them) is not legal: want 64 at most"},
		{[]string{"extra"}, "extra"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"certs", "--out", out}, test.args...), &stdout, &stderr)
		if code != exitInput || !strings.Contains(stderr.String(), test.says) || stdout.Len() != 0 {
			t.Errorf("%v: code %d, %q, want %q", test.args, code, stderr.String(), test.says)
		}
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	options := certsIn(out)
	options.days = 0
	err := runCerts(t.Context(), options, certsNow, io.Discard, io.Discard)
	if !errors.Is(err, settings.ErrIllegal) {
		t.Error(err)
	}
}
