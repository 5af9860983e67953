package engine

import (
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"loteria/engine/channel"
	"loteria/engine/settings"
)

// certificatePeriod is how often the server looks whether the files of its certificate have changed.
const certificatePeriod = time.Second

// secure is where agencies come to over TLS. Nil is nowhere.
type secure struct {
	listener    keptListener
	credentials *channel.Credentials
	log         *zap.Logger
	hurry       chan struct{} // holds one: look at the files now
	stop        chan struct{} // closed when nobody looks any more
	stopped     chan struct{}
}

// openSecure reads the certificate, and listens on SERVER_TLS_ADDR. It returns nil if there is no such
// address. Errors wrap ErrConfig or ErrListen.
func openSecure(cfg Config, log *zap.Logger) (*secure, error) {
	if cfg.TLSAddr == "" {
		return nil, nil
	}
	credentials, err := channel.Open(channel.Files{Certificate: cfg.TLSCert, Key: cfg.TLSKey, ClientCA: cfg.TLSClientCA})
	if err != nil {
		return nil, fmt.Errorf("%w: SERVER_TLS_CERT_FILE, SERVER_TLS_KEY_FILE or SERVER_TLS_CLIENT_CA_FILE: %w",
			settings.ErrIllegal, err)
	}
	listener, err := listenOn("SERVER_TLS_ADDR", cfg.TLSAddr)
	if err != nil {
		return nil, err
	}
	s := &secure{
		listener: keptListener{listener.(*net.TCPListener)}, credentials: credentials, log: log,
		hurry: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	log.Info("tls", zap.String("result", "in_progress"), zap.Stringer("addr", s.addr()))
	s.say("the server's certificate is read")
	go s.watch()
	return s, nil
}

// reopen lets the next user accept connections; see keptListener.
func (s *secure) reopen() error {
	if s == nil {
		return nil
	}
	return s.listener.reopen()
}

// addr is where it listens; nil: nowhere.
func (s *secure) addr() net.Addr {
	if s == nil {
		return nil
	}
	return s.listener.Addr()
}

// say logs which certificate new connections see.
func (s *secure) say(what string) {
	expiry := s.credentials.Expiry()
	s.log.Info("tls", zap.String("result", "success"), zap.String("certificado", what), zap.Time("vence", expiry),
		zap.Bool("mutuo", s.credentials.Mutual()))
	if !expiry.After(time.Now()) {
		s.log.Warn("tls", zap.String("result", "fail"), zap.Time("vence", expiry),
			zap.String("aviso", "the server's certificate has expired, and no agency will take it: replace SERVER_TLS_CERT_FILE"))
	}
}

// watch reads the files again when they change. Connections that are there don't notice.
func (s *secure) watch() {
	defer close(s.stopped)
	ticks := time.NewTicker(certificatePeriod)
	defer ticks.Stop()
	for {
		asked := false
		select {
		case <-ticks.C:
		case <-s.hurry:
			asked = true
		case <-s.stop:
			return
		}
		changed, err := s.credentials.Reload(asked)
		switch {
		case err != nil:
			s.log.Error("tls", zap.String("result", "fail"), zap.NamedError("error", err),
				zap.String("aviso", "new connections still get the certificate from before"))
		case changed:
			s.say("new connections get another certificate")
		case asked:
			s.say("the files have not changed")
		}
	}
}

// reload looks at the files at once.
func (s *secure) reload() {
	if s == nil {
		return
	}
	select {
	case s.hurry <- struct{}{}:
	default: // it is about to
	}
}

func (s *secure) close() error {
	if s == nil {
		return nil
	}
	close(s.stop)
	<-s.stopped
	if err := s.listener.TCPListener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
