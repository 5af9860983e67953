package engine

import (
	"time"

	"go.uber.org/zap"

	"loteria/codec"
)

const (
	// missingPeriod is how often the log names the agencies that the server waits for.
	missingPeriod = 30 * time.Second
	// missingFew is how few agencies have to be missing for every report to make the log name them.
	missingFew = 3
)

// sayMissingNowAndThen calls sayMissing once every missingPeriod.
func (s *Server) sayMissingNowAndThen(now time.Time) {
	if !now.Before(s.missingNext) {
		s.sayMissing(now)
	}
}

// sayMissing logs the agencies that the server waits for: before the draw those that have not
// reported, after it those that are not known to have their winners.
func (s *Server) sayMissing(now time.Time) {
	s.missingNext = now.Add(missingPeriod)
	action, result, names := "espera", "success", zap.Skip()
	if s.committer.Lottery().Drawn() {
		action = "entrega"
	}
	missing := s.committer.Exit().Missing()
	if len(missing) > 0 {
		result = "in_progress"
		names = zap.String("agencias", codec.ListAgencies(missing, codec.AgenciesListed))
	}
	s.log.Info(action, zap.String("result", result), zap.Int("faltan", len(missing)), names)
}
