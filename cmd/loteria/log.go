package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"loteria/engine/settings"
)

// logConfig is the configuration of a server's or an agency's log.
type logConfig struct {
	Level  string `env:"LOG_LEVEL" envDefault:"info" help:"least level that is logged" legal:"debug, info, warn or error"`
	Format string `env:"LOG_FORMAT" envDefault:"line" help:"lines for people and existing tools, or JSON with the same keys" oneof:"line json"`
}

const (
	logBufferBytes   = 256 << 10
	logFlushInterval = 100 * time.Millisecond
	// logWriteBytes is how long a write may be that a pipe takes whole or not at all: PIPE_BUF of
	// Linux.
	logWriteBytes = 4 << 10
)

// newLogger makes a logger that writes to w. Lines wait in a buffer for at most logFlushInterval;
// an error is written at once, with the lines that wait. closeLog writes the rest. A killed process
// loses the lines that wait, but leaves no half line in a pipe.
func newLogger(c logConfig, w io.Writer) (log *zap.Logger, closeLog func() error, err error) {
	if err := settings.Check(c); err != nil {
		return nil, nil, err
	}
	level, err := zapcore.ParseLevel(strings.ToLower(c.Level))
	if err != nil || level > zapcore.ErrorLevel {
		return nil, nil, settings.Illegal("LOG_LEVEL", c.Level, "debug, info, warn or error")
	}
	out := &zapcore.BufferedWriteSyncer{
		WS:   zapcore.AddSync(wholeLines{w}), // the log need not be durable
		Size: logBufferBytes, FlushInterval: logFlushInterval,
	}
	var core zapcore.Core = &lineCore{LevelEnabler: level, out: out, clock: new(lineClock)}
	if c.Format == "json" {
		encoder := zap.NewProductionEncoderConfig()
		encoder.MessageKey, encoder.TimeKey = "action", "time"
		encoder.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		encoder.EncodeDuration = zapcore.StringDurationEncoder
		core = zapcore.NewCore(zapcore.NewJSONEncoder(encoder), out, level)
	}
	complaints := zapcore.AddSync(&firstWrite{to: os.Stderr})
	return zap.New(core, zap.ErrorOutput(complaints)), out.Stop, nil
}

// firstWrite passes on only the first write: one complaint about a log that can't be written is
// enough.
type firstWrite struct {
	to   io.Writer
	once sync.Once
}

func (w *firstWrite) Write(p []byte) (n int, err error) {
	w.once.Do(func() { _, err = w.to.Write(p) })
	return len(p), err
}

// wholeLines writes lines to a terminal, a file or a pipe. A full pipe may take a part of a long
// write. If the writer is killed then, the next process's first line begins in the middle of a
// line. So no write is longer than a pipe takes whole, unless one line is longer.
type wholeLines struct{ to io.Writer }

func (w wholeLines) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		rest := p[n:]
		if len(rest) > logWriteBytes {
			end := bytes.LastIndexByte(rest[:logWriteBytes], '\n')
			if end < 0 {
				end = bytes.IndexByte(rest, '\n')
			}
			if end >= 0 {
				rest = rest[:end+1]
			}
		}
		var written int
		written, err = w.to.Write(rest)
		n += written
	}
	return n, err
}

// lineCore writes entries in the form that existing tools parse:
//
//	2026-11-23 10:00:00 INFO     action: apuesta_recibida | result: success | cantidad: 150
//
// The message is the action. The fields follow in their order, so result has to be the first. A
// value with a control character or a line end is quoted. A '|' in a value is shown as '¦', which
// people can read and which doesn't disturb tools that split a line at '|'.
type lineCore struct {
	zapcore.LevelEnabler
	out    zapcore.WriteSyncer
	clock  *lineClock
	fields []zapcore.Field // of With
}

var lines = buffer.NewPool()

func (c *lineCore) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.fields = append(append([]zapcore.Field(nil), c.fields...), fields...)
	return &with
}

func (c *lineCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c *lineCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	line := lines.Get()
	defer line.Free()
	c.clock.append(line, entry.Time)
	line.AppendByte(' ')
	level := entry.Level.CapitalString()
	line.AppendString(level)
	const levelWidth = 8
	for range levelWidth - len(level) {
		line.AppendByte(' ')
	}
	line.AppendString(" action: ")
	appendValue(line, entry.Message)
	for i := range fields {
		appendField(line, &fields[i])
	}
	for i := range c.fields {
		appendField(line, &c.fields[i])
	}
	line.AppendByte('\n')
	_, err := c.out.Write(line.Bytes())
	if entry.Level > zapcore.WarnLevel {
		err = errors.Join(err, c.out.Sync())
	}
	return err
}

func (c *lineCore) Sync() error { return c.out.Sync() }

func appendField(line *buffer.Buffer, f *zapcore.Field) {
	if f.Type == zapcore.SkipType {
		return
	}
	line.AppendString(" | ")
	line.AppendString(f.Key)
	line.AppendString(": ")
	switch f.Type {
	case zapcore.StringType:
		appendValue(line, f.String)
	case zapcore.Int64Type, zapcore.Int32Type, zapcore.Int16Type, zapcore.Int8Type,
		zapcore.Uint32Type, zapcore.Uint16Type, zapcore.Uint8Type:
		line.AppendInt(f.Integer)
	case zapcore.BoolType:
		line.AppendBool(f.Integer == 1)
	case zapcore.DurationType:
		line.AppendString(time.Duration(f.Integer).String())
	default:
		// zap formats the rare types, through a map of one field.
		m := zapcore.NewMapObjectEncoder()
		f.AddTo(m)
		appendValue(line, fmt.Sprint(m.Fields[f.Key]))
	}
}

// appendValue appends s so that it can't end the line or the value.
func appendValue(line *buffer.Buffer, s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '|' || c == 0x7f || c >= utf8.RuneSelf {
			line.AppendString(strings.ReplaceAll(quoteUnlessPrintable(s), "|", "¦"))
			return
		}
	}
	line.AppendString(s)
}

func quoteUnlessPrintable(s string) string {
	special := func(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }
	if strings.ContainsFunc(s, special) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// lineClock formats the time of lines. It keeps the text for a second.
type lineClock struct {
	mu     sync.Mutex
	second int64
	text   []byte
}

func (c *lineClock) append(line *buffer.Buffer, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if second := t.Unix(); second != c.second || c.text == nil {
		c.second, c.text = second, t.AppendFormat(c.text[:0], time.DateTime)
	}
	_, _ = line.Write(c.text) // writing to a buffer doesn't fail
}
