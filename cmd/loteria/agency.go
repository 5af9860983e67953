package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"loteria/agency"
	"loteria/agency/dataset"
	"loteria/codec"
	"loteria/engine/settings"
)

const agencyHelp = `Upload an agency's bets, report, wait for the draw, save the winners, confirm them
to the server, and exit.

The bets are a CSV file with five columns and no header (first name, last name,
document, birthdate, number), or a zip or a folder that holds agency-<id>.csv.
AGENCY_BETS may name several of these, separated by a colon; the agency takes
the first that has its bets.

After a lost connection the agency goes on after the last bet that the server
has on disk. It also goes on with an upload that another process began, if the
stored bets are the first ones of this file.

If several servers hold the draw together, AGENCY_SERVER has all their
addresses. The agency tries them in turn, and goes where a server says that the
leader is.

With AGENCY_TLS_CA_FILE the agency connects by TLS. Its files are read for each
connection, so they may be renewed while it runs.

Exit codes: 0 done, or stopped by a signal; 1 configuration or input; 3 no
server was reachable for AGENCY_RETRY_FOR, or none that takes this agency and can
be trusted; 5 rejected by the server, or the server has other bets of this
agency. An agency that has its winners but can't confirm them for
AGENCY_RETRY_FOR warns, and exits with 0.`

// agencyConfig is the configuration of `loteria agency`.
type agencyConfig struct {
	ID            uint32        `env:"AGENCY_ID" help:"the agency's id; has to be set" min:"1" max:"100000"`
	Server        string        `env:"AGENCY_SERVER" envDefault:"localhost:12345" help:"the server's address; of several servers of one draw all of them, tried in turn" legal:"HOST:PORT, or up to 16 different ones separated by commas"`
	Bets          string        `env:"AGENCY_BETS" help:"the bets: a CSV file, or a zip or a folder that holds agency-<id>.csv; has to be set" legal:"a path, or several separated by a colon: the first that has the bets counts"`
	BatchBets     int           `env:"AGENCY_BATCH_BETS" envDefault:"150" help:"most bets in a batch" min:"1" legal:"1 or more"`
	BatchBytes    int           `env:"AGENCY_BATCH_BYTES" envDefault:"8192" help:"most bytes in a batch; the server may ask for less" min:"309" max:"16777216"`
	Window        int           `env:"AGENCY_WINDOW" envDefault:"32" help:"batches that may be unanswered at once; the server may ask for less" min:"1" max:"1024"`
	RetryFor      time.Duration `env:"AGENCY_RETRY_FOR" envDefault:"1m" help:"how long an unreachable server is tried again" min:"0s" legal:"a duration, such as 30s"`
	ReplyBytesMax int           `env:"AGENCY_REPLY_BYTES_MAX" envDefault:"67108864" help:"largest answer that is taken, in bytes; the largest is the winners" min:"1024" max:"1073741824"`
	Secret        codec.Secret  `env:"AGENCY_SECRET" help:"the secret that the agency shares with the server; none if empty" legal:"16 to 64 printable ASCII characters without spaces"`
	SecretFile    string        `env:"AGENCY_SECRET_FILE" help:"file that holds the secret, in place of AGENCY_SECRET" legal:"a path"`
	TLSCA         string        `env:"AGENCY_TLS_CA_FILE" help:"authorities that sign the servers' certificates; with them the agency connects by TLS, to SERVER_TLS_ADDR. Plain if empty" legal:"a PEM file"`
	TLSCert       string        `env:"AGENCY_TLS_CERT_FILE" help:"certificate for servers that ask for one, in place of the secret; its one URI is spiffe://DOMAIN/agency/ID. None if empty" legal:"a PEM file"`
	TLSKey        string        `env:"AGENCY_TLS_KEY_FILE" help:"key of that certificate" legal:"a PEM file"`
	TLSServerName string        `env:"AGENCY_TLS_SERVER_NAME" help:"whom the servers' certificates have to be for; if empty, each server's for the host of its address" legal:"a DNS name or an IP address"`
	Winners       string        `env:"AGENCY_WINNERS" help:"file to write the winners to, as they came; none if empty" legal:"a path"`
}

// agencyServerLegal is what AGENCY_SERVER takes, as its tag says.
const agencyServerLegal = "HOST:PORT, or up to 16 different ones separated by commas"

func (c agencyConfig) legalID() bool { return c.ID >= 1 && c.ID <= 100_000 }

// logFields are the fields of every log line about this agency: its id, or none if the id is not
// legal. The rest of the configuration may be wrong.
func (c agencyConfig) logFields() []zap.Field {
	if !c.legalID() {
		return nil
	}
	return []zap.Field{zap.Uint32("agencia", c.ID)}
}

func (c agencyConfig) validate() error {
	if c.ID == 0 && os.Getenv("AGENCY_ID") == "" {
		return fmt.Errorf("%w: AGENCY_ID has to be set: want 1 to 100000", errEnvironment)
	}
	if err := settings.Check(c); err != nil {
		return err
	}
	switch {
	case c.Bets == "":
		return fmt.Errorf(
			"%w: AGENCY_BETS has to be set: want a CSV file, or a zip or a folder that holds %s",
			errEnvironment, dataset.FileName(int(c.ID)))
	case c.Secret.IsSet() && c.SecretFile != "":
		return fmt.Errorf(
			"%w: AGENCY_SECRET and AGENCY_SECRET_FILE=%s are both set: want one of them",
			errEnvironment, c.SecretFile)
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	return settings.CheckAddrs("AGENCY_SERVER", c.Server, agency.AddrsMax, agencyServerLegal)
}

func (c agencyConfig) validateTLS() error {
	if _, ok := parseHost(c.TLSServerName); c.TLSServerName != "" && !ok {
		return settings.Illegal("AGENCY_TLS_SERVER_NAME", c.TLSServerName, "a DNS name or an IP address")
	}
	for _, set := range []struct{ name, value string }{
		{"AGENCY_TLS_CERT_FILE", c.TLSCert}, {"AGENCY_TLS_KEY_FILE", c.TLSKey}, {"AGENCY_TLS_SERVER_NAME", c.TLSServerName},
	} {
		if c.TLSCA == "" && set.value != "" {
			return settings.Illegal(set.name, set.value,
				"empty without AGENCY_TLS_CA_FILE, the authority that has signed the server's certificate")
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fmt.Errorf("%w: AGENCY_TLS_CERT_FILE=%s and AGENCY_TLS_KEY_FILE=%s: want both, or none",
			errEnvironment, c.TLSCert, c.TLSKey)
	}
	return nil
}

// secret is the agency's secret, from either variable. It is not set if neither is.
func (c agencyConfig) secret() (codec.Secret, error) {
	if c.SecretFile == "" {
		return c.Secret, nil
	}
	f, err := os.Open(c.SecretFile)
	if err != nil {
		return codec.Secret{}, fmt.Errorf("%w: AGENCY_SECRET_FILE: %w", errEnvironment, err)
	}
	// More than the limit is read, so that ParseSecret refuses a secret that is too long.
	content, err := io.ReadAll(io.LimitReader(f, 2*codec.SecretBytesMax))
	err = errors.Join(err, f.Close())
	var secret codec.Secret
	if err == nil {
		secret, err = codec.ParseSecret(bytes.TrimSpace(content))
	}
	if err != nil {
		return codec.Secret{}, fmt.Errorf("%w: AGENCY_SECRET_FILE=%s: %w",
			errEnvironment, c.SecretFile, err)
	}
	return secret, nil
}

func newAgencyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "agency",
		Short:   "Upload one agency's bets and wait for its winners",
		Long:    agencyHelp + "\n\n" + environmentHelp(agencyConfig{}, logConfig{}),
		Example: "  AGENCY_ID=1 AGENCY_BETS=testdata/dataset.zip loteria agency",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg agencyConfig
			errLoad := loadEnvironment(&cfg)
			return withLogger(cmd.OutOrStdout(), cfg.logFields(), func(log *zap.Logger) error {
				warnOfUnknown(log, "AGENCY_", cfg)
				if errLoad != nil {
					return errLoad
				}
				if err := cfg.validate(); err != nil {
					return err
				}
				log.Info("config",
					append([]zap.Field{zap.String("result", "success")}, settingFields(cfg)...)...)
				_, err := runAgency(cmd.Context(), cfg, log, agencyHooks{})
				if errors.Is(err, context.Canceled) {
					log.Info("shutdown", zap.String("result", "success"))
				}
				return err
			})
		},
	}
}

// agencyRun is the result of an agency's run.
type agencyRun struct {
	uploaded agency.Progress
	winners  agency.Winners
}

// agencyHooks change an agency's run. The zero value changes nothing.
type agencyHooks struct {
	// pace, unless nil, returns the reader from which the agency reads the bets in r.
	pace func(ctx context.Context, r io.Reader) io.Reader
	// hold, unless nil, is called when all bets are stored and before the agency reports. Its error is
	// the agency's.
	hold func(context.Context) error
}

// runAgency runs an agency to its end.
func runAgency(
	ctx context.Context, cfg agencyConfig, log *zap.Logger, hooks agencyHooks, options ...agency.Option,
) (agencyRun, error) {
	secret, err := cfg.secret()
	if err != nil {
		return agencyRun{}, err
	}
	// The bets are opened first: an agency without any has no reason to connect.
	bets, name, err := dataset.OpenFirst(filepath.SplitList(cfg.Bets), int(cfg.ID))
	if err != nil {
		return agencyRun{}, err
	}
	defer bets.Close()
	winners, err := newWinnersFile(cfg.Winners)
	if err != nil {
		return agencyRun{}, err
	}
	defer winners.discard()
	configured := []agency.Option{
		agency.WithBatchBets(cfg.BatchBets),
		agency.WithBatchBytes(cfg.BatchBytes),
		agency.WithWindow(cfg.Window),
		agency.WithRetryFor(cfg.RetryFor),
		agency.WithReplyBytesMax(cfg.ReplyBytesMax),
		agency.WithSecret(secret),
		agency.WithLogger(slogLogger(log)),
	}
	if cfg.TLSCA != "" {
		configured = append(configured, agency.WithTLS(agency.TLS{
			CAFile: cfg.TLSCA, CertFile: cfg.TLSCert, KeyFile: cfg.TLSKey, ServerName: cfg.TLSServerName,
		}))
	}
	client, err := agency.Dial(ctx, cfg.Server, codec.Agency(cfg.ID), append(configured, options...)...)
	if err != nil {
		return agencyRun{}, err
	}
	var input io.Reader = bets
	if hooks.pace != nil {
		input = hooks.pace(ctx, bets)
	}
	var run agencyRun
	run.uploaded, err = client.Upload(ctx, name, input)
	if err == nil && hooks.hold != nil {
		err = hooks.hold(ctx)
	}
	if err == nil {
		run.winners, err = client.Winners(ctx)
	}
	if err == nil {
		err = winners.write(run.winners.Bytes())
	}
	if err == nil {
		err = confirmWinners(ctx, client, log)
	}
	if errClose := client.Close(); err == nil {
		err = errClose
	}
	return run, err
}

// confirmWinners tells the server that the agency has saved its winners. If the server is gone, it
// warns and returns nil: the agency has done its part.
func confirmWinners(ctx context.Context, client *agency.Client, log *zap.Logger) error {
	err := client.Confirm(ctx)
	if errors.Is(err, agency.ErrUnreachable) {
		log.Warn("ganadores_confirmados", zap.String("result", "fail"), zap.Error(err),
			zap.String("aviso", "the agency has its winners, but the server doesn't know and may end with exit code 3"))
		return nil
	}
	return err
}

// winnersFile is the file AGENCY_WINNERS. It is opened before the draw, so that an agency which
// can't write it fails early. Where the file system allows it, the file appears complete or not at
// all.
type winnersFile struct {
	name string   // the file's name, symbolic links resolved; empty: the winners are not written
	temp *os.File // a temporary file beside it, to be renamed; nil: name is written in place
}

func newWinnersFile(name string) (*winnersFile, error) {
	if name == "" {
		return &winnersFile{}, nil
	}
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	info, errStat := os.Stat(name)
	switch {
	case errStat == nil && info.IsDir():
		return nil, fmt.Errorf("%w: AGENCY_WINNERS=%s is a folder: want a file", errEnvironment, name)
	case errStat == nil && !info.Mode().IsRegular():
		// A pipe or a device. It is not opened yet: that may wait for a reader.
		return &winnersFile{name: name}, nil
	}
	temp, err := newTemporary(name)
	if err == nil {
		return &winnersFile{name: name, temp: temp}, nil
	}
	if errStat == nil {
		// The folder can't be written, but the file may be.
		file, errOpen := os.OpenFile(name, os.O_WRONLY, 0)
		if errOpen == nil {
			return &winnersFile{name: name}, file.Close()
		}
	}
	return nil, fmt.Errorf("%w: AGENCY_WINNERS=%s can't be written: %w", errEnvironment, name, err)
}

// write returns when the winners are durable. Those written to a pipe or a device are only written.
func (f *winnersFile) write(winners []byte) error {
	if f.name == "" {
		return nil
	}
	if err := f.replace(winners); err != nil {
		return fmt.Errorf("AGENCY_WINNERS=%s: the winners can't be written: %w", f.name, err)
	}
	return nil
}

func (f *winnersFile) replace(winners []byte) error {
	if f.temp == nil {
		return writeInPlace(f.name, winners)
	}
	mode := fs.FileMode(readable) // a file that is there keeps its own
	if info, err := os.Stat(f.name); err == nil {
		mode = info.Mode().Perm()
	}
	err := finishTemporary(f.temp, winners, mode)
	if err == nil {
		err = os.Rename(f.temp.Name(), f.name)
	}
	if errors.Is(err, syscall.EBUSY) { // the file itself is a mount point
		return writeInPlace(f.name, winners)
	}
	if err != nil {
		return err
	}
	f.temp = nil
	return syncFolder(filepath.Dir(f.name))
}

func writeInPlace(name string, content []byte) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, readable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(content); err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() { // a pipe or a device can't be synced
		err = file.Sync()
	}
	return err
}

// discard removes a temporary file that was not renamed.
func (f *winnersFile) discard() {
	if f.temp != nil {
		// The caller has an error to report already. A failed write has closed the file.
		_ = f.temp.Close()
		_ = os.Remove(f.temp.Name())
	}
}
