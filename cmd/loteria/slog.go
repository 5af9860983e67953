package main

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// slogHandler writes the records of log/slog as lines of a zap logger. Package agency takes the
// standard library's logger, and its lines have to look like all others.
//
// It writes through the logger and not, as go.uber.org/zap/exp/zapslog does, through the logger's
// core: only the logger reports a log that can't be written. A line can't hold objects, so a
// group's name becomes a prefix of the keys in it.
type slogHandler struct {
	log    *zap.Logger
	prefix string // of keys: the name of each open group with a '_' after it
}

// slogLogger logs to log.
func slogLogger(log *zap.Logger) *slog.Logger { return slog.New(slogHandler{log: log}) }

// Enabled implements slog.Handler.
func (h slogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.log.Core().Enabled(zapLevel(level))
}

// Handle implements slog.Handler. A record without a time gets the current one: every line has a
// time.
func (h slogHandler) Handle(_ context.Context, r slog.Record) error {
	entry := h.log.Check(zapLevel(r.Level), r.Message)
	if entry == nil {
		return nil
	}
	if !r.Time.IsZero() {
		entry.Time = r.Time
	}
	fields := make([]zap.Field, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, a)
		return true
	})
	entry.Write(fields...) // the logger itself reports a failure
	return nil
}

// WithAttrs implements slog.Handler.
func (h slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var fields []zap.Field
	for _, a := range attrs {
		fields = appendAttr(fields, h.prefix, a)
	}
	return slogHandler{h.log.With(fields...), h.prefix}
}

// WithGroup implements slog.Handler.
func (h slogHandler) WithGroup(name string) slog.Handler {
	return slogHandler{h.log, groupPrefix(h.prefix, name)}
}

// groupPrefix is the prefix of keys in a group of this name. A group without a name adds nothing.
func groupPrefix(prefix, name string) string {
	if name == "" {
		return prefix
	}
	return prefix + name + "_"
}

// appendAttr appends the zap fields of an attribute.
func appendAttr(fields []zap.Field, prefix string, a slog.Attr) []zap.Field {
	if a.Equal(slog.Attr{}) {
		return fields
	}
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		for _, member := range value.Group() {
			fields = appendAttr(fields, groupPrefix(prefix, a.Key), member)
		}
		return fields
	}
	return append(fields, zap.Any(prefix+a.Key, value.Any()))
}

// zapLevel is the highest zap level that is not above level, at least DebugLevel.
func zapLevel(level slog.Level) zapcore.Level {
	switch {
	case level >= slog.LevelError:
		return zapcore.ErrorLevel
	case level >= slog.LevelWarn:
		return zapcore.WarnLevel
	case level >= slog.LevelInfo:
		return zapcore.InfoLevel
	}
	return zapcore.DebugLevel
}
