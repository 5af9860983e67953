package engine

import (
	"time"

	"go.uber.org/zap"

	"loteria/codec"
)

const (
	// missingPeriod is how often the log names the agencies that the server waits for.
	missingPeriod = 30 * time.Second
	// missingFew is from when on every report makes the log name those that are left.
	missingFew = 3
)

// sayMissingNowAndThen names whom the server waits for, once every missingPeriod.
func (s *Server) sayMissingNowAndThen(now time.Time) {
	if !now.Before(s.missingNext) {
		s.sayMissing(now)
	}
}

// sayMissing writes the line that names the agencies the server waits for: for their reports, or
// after the draw until they have their winners.
func (s *Server) sayMissing(now time.Time) {
	s.missingNext = now.Add(missingPeriod)
	action, result := "espera", "in_progress"
	if s.committer.Lottery().Drawn() {
		action = "entrega"
	}
	missing := s.committer.Exit().Missing()
	fields := []zap.Field{zap.Int("faltan", len(missing))}
	if len(missing) > 0 {
		fields = append(fields, zap.String("agencias", codec.ListAgencies(missing, codec.AgenciesListed)))
	} else {
		result = "success"
	}
	s.log.Info(action, append([]zap.Field{zap.String("result", result)}, fields...)...)
}
