package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"loteria/agency/dataset"
	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/settings"
)

const certsHelp = `Make a certificate authority and the certificates of servers and agencies, for
development. In the folder --out:

  ca.pem, ca-key.pem               the authority, valid for ten years
  server-1.pem, server-1-key.pem   and so on, for mutual TLS: server and client
  agency-1.pem, agency-1-key.pem   and so on: client only

A certificate's identity is its one URI: spiffe://<domain>/server/<id> or
spiffe://<domain>/agency/<id>. A server's certificate is also for the names
server, server<id> and localhost, for 127.0.0.1 and ::1, and for every --host.
Keys are ECDSA P-256, in PKCS #8; only their owner may read them (mode 0600).

Run again, it keeps the files that are there and makes those that are missing:
this adds servers and agencies. Give the same --domain and --host again. A file
that doesn't fit is an error, before anything is written. --renew makes the
certificates of servers and agencies anew, for the same keys, say because they
have expired. No key, and no ca.pem, is ever overwritten: to replace a key,
remove it and its certificate; for another authority, take another folder.

The authority's key lies beside the certificates. Whoever reads it can be every
server and every agency, so don't take these files for real bets.`

const certsExample = `  loteria certs --servers 3 --agencies 5 --out certs
  loteria certs --servers 3 --agencies 6 --out certs     # adds agency-6
  loteria certs --servers 1 --agencies 0 --host lottery.example.org --host 192.0.2.7
  loteria certs --servers 3 --agencies 6 --renew         # for another year`

const (
	// certsServersMax is more than servers that have to agree can be.
	certsServersMax = 100
	// certsDaysMax is the longest that macOS takes for a server.
	certsDaysMax     = 825
	certsDaysDefault = 365
	certsHostsMax    = 64

	certsDomainDefault = "loteria"

	certsAuthority = "ca" // the beginning of the names of the authority's files
)

var (
	// errCertsKept says that a file which is there doesn't fit what is asked for. Nothing has been
	// written.
	errCertsKept = errors.New("can't go on with the files that are there")
	// errCertsWrite says that a file can't be written. The files before it are complete.
	errCertsWrite = errors.New("can't write")
)

// certsOptions are the values of the flags.
type certsOptions struct {
	out      string
	servers  int
	agencies int
	domain   string
	hosts    []string
	days     int
	renew    bool
}

func newCertsCommand() *cobra.Command {
	var options certsOptions
	cmd := &cobra.Command{
		Use:     "certs",
		Short:   "Make an authority and certificates for servers and agencies, for development",
		Long:    certsHelp,
		Example: certsExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCerts(cmd.Context(), options, time.Now(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.out, "out", "certs", "folder for the files; it is made if necessary")
	flags.IntVar(&options.servers, "servers", 1,
		fmt.Sprintf("number of servers, 0 to %d", certsServersMax))
	flags.IntVar(&options.agencies, "agencies", len(dataset.Default().Agencies),
		fmt.Sprintf("number of agencies, 0 to %d", dataset.AgenciesMax))
	flags.StringVar(&options.domain, "domain", certsDomainDefault, "whose servers and agencies these are")
	flags.StringArrayVar(&options.hosts, "host", nil,
		fmt.Sprintf("one more `name` or IP address of all servers; up to %d times", certsHostsMax))
	flags.IntVar(&options.days, "days", certsDaysDefault,
		fmt.Sprintf("how long new certificates are valid, 1 to %d", certsDaysMax))
	flags.BoolVar(&options.renew, "renew", false,
		"make the certificates that are there anew, for the same keys")
	return cmd
}

// runCerts makes what is missing at the time now, and says on stdout what it has made.
func runCerts(
	ctx context.Context, options certsOptions, now time.Time, stdout, stderr io.Writer,
) error {
	options, err := options.checked()
	if err != nil {
		return err
	}
	plan, err := planCerts(options, now)
	if err == nil {
		err = plan.write(ctx)
	}
	if err != nil {
		return fmt.Errorf("--out %s: %w", options.out, err)
	}
	if err := plan.report(stdout); err != nil {
		return err
	}
	if plan.authority.key == nil {
		return nil
	}
	_, err = fmt.Fprintf(stderr,
		"for development only: whoever reads %s can be every server and every agency\n",
		filepath.Join(options.out, keyFile(certsAuthority)))
	return err
}

// checked returns the options with hosts as certificates have them. Errors wrap
// [settings.ErrIllegal].
func (o certsOptions) checked() (certsOptions, error) {
	for _, flag := range []struct {
		name               string
		value, least, most int
	}{
		{"--servers", o.servers, 0, certsServersMax},
		{"--agencies", o.agencies, 0, dataset.AgenciesMax},
		{"--days", o.days, 1, certsDaysMax},
	} {
		if flag.value < flag.least || flag.value > flag.most {
			return o, settings.Illegal(
				flag.name, flag.value, fmt.Sprintf("%d to %d", flag.least, flag.most))
		}
	}
	if o.out == "" {
		return o, settings.Illegal("--out", o.out, "a folder")
	}
	// Identities are compared as texts, so capital letters would make another domain.
	if !isName(o.domain) {
		return o, settings.Illegal("--domain", o.domain, "a DNS name in small letters")
	}
	if len(o.hosts) > certsHostsMax {
		return o, settings.Illegal("--host", fmt.Sprintf("(%d of them)", len(o.hosts)),
			fmt.Sprintf("%d at most", certsHostsMax))
	}
	hosts := make([]string, len(o.hosts))
	for i, text := range o.hosts {
		host, ok := parseHost(text)
		if !ok {
			return o, settings.Illegal("--host", text, "a DNS name or an IP address")
		}
		hosts[i] = host
	}
	o.hosts = hosts
	return o, nil
}

// certsPlan is what a run makes and what it keeps. Everything that is there fits.
type certsPlan struct {
	options certsOptions
	now     time.Time

	authority *authority
	newCert   bool // the authority's certificate is to be written
	newKey    bool // and its key
	makes     []certsTask
	keeps     []certsKept
}

// certsTask is a certificate to make.
type certsTask struct {
	role
	key crypto.Signer // that is there already; nil: to be made, too
}

// certsKept is a certificate that stays.
type certsKept struct {
	role
	until time.Time
}

// planCerts reads what is there and decides what to make. It writes nothing. Errors wrap
// errCertsKept.
func planCerts(options certsOptions, now time.Time) (*certsPlan, error) {
	p := &certsPlan{options: options, now: now}
	if err := p.planAuthority(); err != nil {
		return nil, err
	}
	for id := 1; id <= options.servers; id++ {
		if err := p.plan(role{codec.IdentityServer, id}); err != nil {
			return nil, err
		}
	}
	for id := 1; id <= options.agencies; id++ {
		if err := p.plan(role{codec.IdentityAgency, id}); err != nil {
			return nil, err
		}
	}
	if len(p.makes) == 0 {
		return p, nil
	}
	if p.authority.key == nil {
		return nil, fmt.Errorf("%w: nothing can be signed without %s: "+
			"put it back, or choose another --out", errCertsKept, keyFile(certsAuthority))
	}
	if end := p.authority.cert.NotAfter; now.AddDate(0, 0, options.days).After(end) {
		return nil, fmt.Errorf("%w: %s ends on %s, before certificates of %d days: "+
			"choose fewer --days, or another --out",
			errCertsKept, certificateFile(certsAuthority), day(end), options.days)
	}
	return p, nil
}

// planAuthority takes the authority that is there, or makes one, in memory. A key without its
// certificate is what an interrupted run leaves behind; it gets one.
func (p *certsPlan) planAuthority() error {
	dir := p.options.out
	// A key is written before its certificate. So it is read after it: beside another run, a
	// certificate is never seen without its key.
	cert, err := readCertificate(dir, certificateFile(certsAuthority))
	if err != nil {
		return err
	}
	key, err := readKey(dir, keyFile(certsAuthority))
	if err != nil {
		return err
	}
	if cert != nil {
		p.authority = &authority{domain: p.options.domain, cert: cert, key: key}
		return p.authority.check(p.now)
	}
	p.newCert, p.newKey = true, key == nil
	if key == nil {
		if key, err = generateKey(); err != nil {
			return err
		}
	}
	p.authority, err = newAuthority(p.options.domain, key, p.now)
	return err
}

// plan decides whether to make a role's certificate. With --renew it doesn't matter what is in the
// old one.
func (p *certsPlan) plan(who role) error {
	keyName, certName := keyFile(who.name()), certificateFile(who.name())
	var cert *x509.Certificate
	if !p.options.renew {
		var err error
		if cert, err = readCertificate(p.options.out, certName); err != nil {
			return err
		}
	}
	key, err := readKey(p.options.out, keyName)
	if err != nil {
		return err
	}
	if cert == nil {
		p.makes = append(p.makes, certsTask{who, key})
		return nil
	}
	switch {
	case key == nil:
		err = fmt.Errorf("%w: %s is there without %s, its key", errCertsKept, certName, keyName)
	case !samePublicKey(key.Public(), cert.PublicKey):
		err = fmt.Errorf("%w: %s is not for the key in %s", errCertsKept, certName, keyName)
	default:
		err = p.authority.accepts(cert, who, p.options.hosts, p.now)
	}
	if err != nil {
		return fmt.Errorf("%w: make the certificate anew with --renew", err)
	}
	p.keeps = append(p.keeps, certsKept{who, cert.NotAfter})
	return nil
}

// write makes what is missing. Files appear whole, a key before its certificate. They stay if a
// later one fails, and the next run goes on with them.
func (p *certsPlan) write(ctx context.Context) error {
	if !p.newCert && len(p.makes) == 0 {
		return nil
	}
	dir := p.options.out
	if err := (ledger.Disk{}).MkdirAll(dir); err != nil {
		return fmt.Errorf("%w: %w: choose another --out", errCertsWrite, err)
	}
	if p.newKey {
		if err := p.writeKey(certsAuthority, p.authority.key); err != nil {
			return err
		}
	}
	if p.newCert {
		if err := p.writeCertificate(certsAuthority, p.authority.cert, writeNew); err != nil {
			return err
		}
	}
	publish := writeNew
	if p.options.renew {
		publish = writeAnew
	}
	for _, task := range p.makes {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped before %s: run again for the rest: %w", task.name(), err)
		}
		key := task.key
		if key == nil {
			var err error
			if key, err = generateKey(); err != nil {
				return err
			}
			if err := p.writeKey(task.name(), key); err != nil {
				return err
			}
		}
		cert, err := p.authority.issue(
			task.role, key.Public(), p.options.hosts, p.now, p.options.days)
		if err != nil {
			return err
		}
		if err := p.writeCertificate(task.name(), cert, publish); err != nil {
			return err
		}
	}
	if err := syncFolder(dir); err != nil {
		return writeFailed(err)
	}
	return nil
}

func (p *certsPlan) writeKey(name string, key crypto.Signer) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	return writeFailed(writeNew(filepath.Join(p.options.out, keyFile(name)), text, private))
}

func (p *certsPlan) writeCertificate(
	name string, cert *x509.Certificate, publish func(string, []byte, fs.FileMode) error,
) error {
	path := filepath.Join(p.options.out, certificateFile(name))
	return writeFailed(publish(path, encodeCertificate(cert), readable))
}

// writeFailed says what to do about a file that can't be written. It returns nil for nil.
func writeFailed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %w: another run has just made it: run again", errCertsKept, err)
	default:
		return fmt.Errorf("%w: %w: make room, or choose an --out that has hard links; then run again",
			errCertsWrite, err)
	}
}

// report says what was kept and what was made, and until when it all is valid.
func (p *certsPlan) report(w io.Writer) error {
	did := "kept"
	if p.newCert {
		did = "made"
	}
	end := p.authority.cert.NotAfter
	if err := p.reportFile(w, certsAuthority, did, end); err != nil {
		return err
	}
	for _, kind := range []codec.IdentityKind{codec.IdentityServer, codec.IdentityAgency} {
		var kept, made []codec.Agency // servers have ids like those of agencies
		until := end
		for _, keep := range p.keeps {
			if keep.kind == kind {
				kept = append(kept, codec.Agency(keep.id))
				if keep.until.Before(until) {
					until = keep.until
				}
			}
		}
		for _, task := range p.makes {
			if task.kind == kind {
				made = append(made, codec.Agency(task.id))
			}
		}
		if len(kept) > 0 {
			did := "kept " + codec.ListAgencies(kept, codec.AgenciesListed)
			if err := p.reportFile(w, string(kind)+"-<id>", did, until); err != nil {
				return err
			}
		}
		if len(made) > 0 {
			did := "made " + codec.ListAgencies(made, codec.AgenciesListed)
			until := p.now.AddDate(0, 0, p.options.days)
			if err := p.reportFile(w, string(kind)+"-<id>", did, until); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *certsPlan) reportFile(w io.Writer, name, did string, until time.Time) error {
	path := filepath.Join(p.options.out, certificateFile(name))
	_, err := fmt.Fprintf(w, "%s: %s, valid until %s\n", path, did, day(until))
	return err
}

func certificateFile(name string) string { return name + ".pem" }
func keyFile(name string) string         { return name + "-key.pem" }
