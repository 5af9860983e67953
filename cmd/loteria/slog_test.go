package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// valuer is a slog.LogValuer: its value is computed when it is logged.
type valuer struct{ said any }

func (v valuer) LogValue() slog.Value { return slog.AnyValue(v.said) }

// A line through log/slog is the same text as one through zap, in both formats and for every type.
func TestSlogLinesAreZapLines(t *testing.T) {
	const awkward = "a|\n\x1b\"ñ"
	both := errors.Join(errShort, errSilent)
	at := time.Date(2026, 11, 23, 10, 0, 0, 5000, time.UTC)
	for _, test := range []struct {
		name string
		attr slog.Attr
		zap  zap.Field
	}{
		{"string", slog.String("k", awkward), zap.String("k", awkward)},
		{"int", slog.Int("k", -150), zap.Int("k", -150)},
		{"int64", slog.Int64("k", -1<<63), zap.Int64("k", -1<<63)},
		{"uint64", slog.Uint64("k", 1<<63), zap.Uint64("k", 1<<63)},
		{"bool", slog.Bool("k", true), zap.Bool("k", true)},
		{"float", slog.Float64("k", 0.1), zap.Float64("k", 0.1)},
		{"duration", slog.Duration("k", 3*time.Second/2), zap.Duration("k", 3*time.Second/2)},
		{"time", slog.Time("k", at), zap.Time("k", at)},
		{"error", slog.Any("error", errors.New(awkward)), zap.Error(errors.New(awkward))},
		{"errors", slog.Any("error", both), zap.Error(both)},
		{"stringer", slog.Any("k", stringer(awkward)), zap.Stringer("k", stringer(awkward))},
		{"strings", slog.Any("k", []string{awkward, ""}), zap.Strings("k", []string{awkward, ""})},
		{"nil", slog.Any("k", nil), zap.Any("k", nil)},
		{"valuer", slog.Any("k", valuer{valuer{int64(7)}}), zap.Int64("k", 7)},
		{"empty", slog.Attr{}, zap.Skip()},
		{"group", slog.Group("k", slog.Int("a", 1), slog.Group("", slog.Group("b"))), zap.Int("k_a", 1)},
	} {
		for _, format := range []string{"line", "json"} {
			t.Run(test.name+" "+format, func(t *testing.T) {
				want := logged(t, format, "algo",
					zap.String("result", "success"), test.zap, zap.Int("n", 3))
				var out bytes.Buffer
				log, closeLog, err := newLogger(logConfig{Level: "info", Format: format}, &out)
				if err != nil {
					t.Fatal(err)
				}
				slogLogger(log).Info("algo",
					slog.String("result", "success"), test.attr, slog.Int("n", 3))
				if err := closeLog(); err != nil {
					t.Fatal(err)
				}
				if got, want := alike(out.String()), alike(want); got != want {
					t.Errorf("got  %swant %s", got, want)
				}
			})
		}
	}
}

// Attributes of With come after the line's own, like zap's fields of With.
func TestSlogWith(t *testing.T) {
	var out bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	one := slogLogger(log.With(zap.Int("agencia", 1)))
	grouped := one.With("mas", 2).WithGroup("g").With("mas", 3)
	grouped.Info("algo", "result", "success", "n", 4)
	one.Info("algo", "result", "fail")
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	wants := []string{
		" action: algo | g_result: success | g_n: 4 | agencia: 1 | mas: 2 | g_mas: 3\n",
		" action: algo | result: fail | agencia: 1\n",
	}
	lines := strings.SplitAfter(out.String(), "\n")
	for i, want := range wants {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %q, want it to end in %q", lines[i], want)
		}
	}
}

// A level between two named ones counts as the lower one.
func TestSlogLevels(t *testing.T) {
	var out bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for level := slog.LevelDebug - 4; level <= slog.LevelError+4; level += 2 {
		slogLogger(log).Log(t.Context(), level, "algo", "result", "success", "n", int(level))
	}
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, _, values, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Errorf("%v: %q", err, line)
		}
		got = append(got, strings.Fields(line)[2]+values["n"])
	}
	if want := "[INFO0 INFO2 WARN4 WARN6 ERROR8 ERROR10 ERROR12]"; fmt.Sprint(got) != want {
		t.Errorf("logs %v, want %s", got, want)
	}
}

// slogHandler keeps the contract of slog.Handler, as the standard library tests it, with two
// differences: a group's name is a prefix of its members' keys, and a line always has a time.
func TestSlogHandler(t *testing.T) {
	var out bytes.Buffer
	var closeLog func() error
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		out.Reset()
		var log *zap.Logger
		var err error
		if log, closeLog, err = newLogger(logConfig{Level: "info", Format: "json"}, &out); err != nil {
			t.Fatal(err)
		}
		return slogLogger(log).Handler()
	}, func(t *testing.T) map[string]any {
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
		var flat map[string]any
		if err := json.Unmarshal(out.Bytes(), &flat); err != nil {
			t.Fatal(err)
		}
		flat[slog.MessageKey] = flat["action"]
		delete(flat, "action")
		if path.Base(t.Name()) == "zero-time" {
			delete(flat, slog.TimeKey)
		}
		nested := map[string]any{}
		for key, value := range flat {
			in := nested
			groups := strings.Split(key, "_")
			for _, group := range groups[:len(groups)-1] {
				if in[group] == nil {
					in[group] = map[string]any{}
				}
				in = in[group].(map[string]any)
			}
			in[groups[len(groups)-1]] = value
		}
		return nested
	})
}

// A log that can't be written is reported once, also when only log/slog writes to it.
func TestSlogOfALogThatCannotBeWritten(t *testing.T) {
	var complaints bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, &shortWriter{})
	if err != nil {
		t.Fatal(err)
	}
	log = log.WithOptions(zap.ErrorOutput(zapcore.AddSync(&firstWrite{to: &complaints})))
	// The first line fills the buffer, so it is written.
	slogLogger(log).Info("algo", "result", "success", "texto", strings.Repeat("x", logBufferBytes))
	slogLogger(log).Info("algo", "result", "success")
	if !regexp.MustCompile(`^.* write error: short\n$`).MatchString(complaints.String()) {
		t.Errorf("it complains with %q", complaints.String())
	}
	if err := closeLog(); !errors.Is(err, errShort) {
		t.Errorf("closing: %v", err)
	}
}
