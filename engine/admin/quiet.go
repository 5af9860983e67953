package admin

import (
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// quietPeriod is the least time between two lines of a level.
	quietPeriod = time.Second
	// lineBytesMax is how much is logged of a text of net/http.
	lineBytesMax = 2048
)

// quiet bounds a log that strangers can cause lines of. What is left out is counted. All lines have
// the same message, so the bound is for all of a level together.
func (a *Server) quiet(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, quietPeriod, 1, 0,
			zapcore.SamplerHook(func(_ zapcore.Entry, decision zapcore.SamplingDecision) {
				if decision&zapcore.LogDropped != 0 {
					a.suppressed.Add(1)
				}
			}))
	}))
}

// libraryLog is where net/http writes: when it can't accept, or a handler panics.
type libraryLog struct{ log *zap.Logger }

// Write implements io.Writer.
func (l libraryLog) Write(text []byte) (int, error) {
	line := string(text[:min(len(text), lineBytesMax)])
	line = strings.ReplaceAll(strconv.QuoteToASCII(strings.TrimSpace(line)), "|", "¦")
	l.log.Error("http", zap.String("result", "fail"), zap.String("error", line))
	return len(text), nil
}
