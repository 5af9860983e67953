package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
)

// logged is the log text of one INFO line.
func logged(t *testing.T, format string, action string, fields ...zap.Field) string {
	t.Helper()
	var out bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: format}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info(action, fields...)
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var (
	lineStart = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (DEBUG|INFO|WARN|ERROR) {4,5}$`)
	lineName  = regexp.MustCompile(`^[a-z_]+$`)
	lineKey   = regexp.MustCompile(`^[A-Za-z_]+$`)
)

// parseLine reads a line as existing tools do, but is a bit stricter. values are those after the
// result, by key.
func parseLine(line string) (action, result string, values map[string]string, err error) {
	if !utf8.ValidString(line) {
		return "", "", nil, errors.New("not UTF-8")
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return "", "", nil, fmt.Errorf("byte %d is not printable", i)
	}
	start, rest, ok := strings.Cut(line, "action:")
	if !ok || !lineStart.MatchString(start) {
		return "", "", nil, fmt.Errorf("begins with %q", start)
	}
	values = map[string]string{}
	for i, part := range strings.Split("action:"+rest, "|") {
		key, value, ok := strings.Cut(strings.Trim(part, " "), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case !ok:
			return "", "", nil, fmt.Errorf("part %d has no colon: %q", i, part)
		case i == 0:
			action = value
			if !lineName.MatchString(action) {
				return "", "", nil, fmt.Errorf("action %q", action)
			}
		case i == 1:
			result = value
			if key != "result" || result != "success" && result != "fail" && result != "in_progress" {
				return "", "", nil, fmt.Errorf("part 1 is %q", part)
			}
		case !lineKey.MatchString(key) || key == "action" || key == "result" || key == "source":
			return "", "", nil, fmt.Errorf("key %q", key)
		default:
			values[key] = value
		}
	}
	if result == "" {
		return "", "", nil, errors.New("no result")
	}
	return action, result, values, nil
}

// FuzzLine checks that no value of any type can forge a line or a part of one.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		"", "150", "Juan Pérez", "a|b", "a | action: sorteo | result: success", "x\ny", "\r\n",
		"\x1b[31m", "\x00", "\u2028", "\u0085", "\xff\xfe", "\ufffd", `back\slash`, `"quoted"`,
		"\ufeff", "tab\there", " ", "ñ|ñ", "👍🏽", "\u202e",
	} {
		f.Add(s, int64(len(s)), true)
	}
	f.Fuzz(func(t *testing.T, value string, number int64, flag bool) {
		out := logged(t, "line", "solicitud", zap.String("result", "fail"),
			zap.String("cadena", value),
			zap.Error(errors.New(value)),
			zap.Stringer("nombre", stringer(value)),
			zap.ByteString("bytes", []byte(value)),
			zap.Strings("lista", []string{value, value}),
			zap.Any("algo", map[string]string{value: value}),
			zap.Int64("cantidad", number),
			zap.Bool("si", flag),
			zap.Duration("duracion", time.Duration(number)),
			zap.Float64("razon", float64(number)),
			zap.Skip(),
		)
		if strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
			t.Fatalf("not one line: %q", out)
		}
		action, result, values, err := parseLine(strings.TrimSuffix(out, "\n"))
		if err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		if action != "solicitud" || result != "fail" || len(values) != 10 {
			t.Fatalf("action %q, result %q, %d values: %q", action, result, len(values), out)
		}
		if values["cantidad"] != strconv.FormatInt(number, 10) || values["si"] != fmt.Sprint(flag) ||
			values["duracion"] != time.Duration(number).String() {
			t.Fatalf("numbers: %q", out)
		}
		if values["cadena"] != values["error"] || values["cadena"] != values["nombre"] {
			t.Fatalf("the same value looks different: %q", out)
		}
	})
}

type stringer string

func (s stringer) String() string { return string(s) }

// Readable values stay as they are; the others are quoted.
func TestLineValues(t *testing.T) {
	for _, test := range []struct {
		name  string
		field zap.Field
		want  string
	}{
		{"text", zap.String("k", "hola, qué tal: 100%"), "hola, qué tal: 100%"},
		{"empty", zap.String("k", ""), ""},
		{"accents", zap.String("k", "Núñez Ibáñez"), "Núñez Ibáñez"},
		{"separator", zap.String("k", "a|b"), "a¦b"},
		{"separator and accents", zap.String("k", "ñ|"), "ñ¦"},
		{"line end", zap.String("k", "a\nb"), `"a\nb"`},
		{"separator and line end", zap.String("k", "|\n"), `"¦\n"`},
		{"colour", zap.String("k", "\x1b[1m"), `"\x1b[1m"`},
		{"delete", zap.String("k", "\x7f"), `"\x7f"`},
		{"not UTF-8", zap.String("k", "\xff"), `"\xff"`},
		{"line separator", zap.String("k", "\u2028"), `"\u2028"`},
		{"int", zap.Int("k", -150), "-150"},
		{"uint32", zap.Uint32("k", 4_000_000_000), "4000000000"},
		{"uint64", zap.Uint64("k", 1<<63), "9223372036854775808"},
		{"int8", zap.Int8("k", -8), "-8"},
		{"true", zap.Bool("k", true), "true"},
		{"false", zap.Bool("k", false), "false"},
		{"duration", zap.Duration("k", 1500*time.Millisecond), "1.5s"},
		{"error", zap.NamedError("k", errors.New("no | no")), "no ¦ no"},
		{"stringer", zap.Stringer("k", stringer("a|b")), "a¦b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := logged(t, "line", "algo", zap.String("result", "success"), test.field)
			_, _, values, err := parseLine(strings.TrimSuffix(out, "\n"))
			if err != nil || values["k"] != test.want {
				t.Errorf("%q, error %v; want the value %q", out, err, test.want)
			}
		})
	}
}

// A line has exactly this form.
func TestLineFormat(t *testing.T) {
	out := logged(t, "line", "apuesta_recibida", zap.String("result", "success"), zap.Int("cantidad", 150))
	const pattern = `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO     action: apuesta_recibida \| result: success \| cantidad: 150\n$`
	if !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("%q doesn't match %s", out, pattern)
	}
}

// The fields of With come after those of the entry, so that the result stays first.
func TestLineWith(t *testing.T) {
	var out bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	one := log.With(zap.Int("agencia", 1))
	one.With(zap.Int("mas", 2)).Info("algo", zap.String("result", "success"), zap.Int("n", 3))
	one.Info("algo", zap.String("result", "fail"))
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	if !strings.HasSuffix(lines[0], " action: algo | result: success | n: 3 | agencia: 1 | mas: 2\n") ||
		!strings.HasSuffix(lines[1], " action: algo | result: fail | agencia: 1\n") {
		t.Errorf("%q", lines)
	}
}

func TestLogLevels(t *testing.T) {
	for _, test := range []struct {
		level string
		want  []string
	}{
		{"debug", []string{"DEBUG", "INFO", "WARN", "ERROR"}},
		{"info", []string{"INFO", "WARN", "ERROR"}},
		{"warn", []string{"WARN", "ERROR"}},
		{"error", []string{"ERROR"}},
		{"ERROR", []string{"ERROR"}},
	} {
		var out bytes.Buffer
		log, closeLog, err := newLogger(logConfig{Level: test.level, Format: "line"}, &out)
		if err != nil {
			t.Fatal(err)
		}
		for _, write := range []func(string, ...zap.Field){log.Debug, log.Info, log.Warn, log.Error} {
			write("algo", zap.String("result", "success"))
		}
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			if _, _, _, err := parseLine(strings.TrimSuffix(line, "\n")); err != nil {
				t.Errorf("%v: %q", err, line)
			}
			got = append(got, strings.Fields(line)[2])
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("LOG_LEVEL=%s logs %v, want %v", test.level, got, test.want)
		}
	}
}

// An error is written at once, because the process may be about to end.
func TestErrorsAreNotBuffered(t *testing.T) {
	out := newOutput()
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("antes", zap.String("result", "success"))
	log.Error("algo", zap.String("result", "fail"))
	if said := out.String(); strings.Count(said, "\n") != 2 {
		t.Errorf("written by then: %q", said)
	}
	if err := closeLog(); err != nil {
		t.Error(err)
	}
}

// JSON carries the same keys as lines.
func TestJSONLog(t *testing.T) {
	out := logged(t, "json", "apuesta_recibida", zap.String("result", "success"),
		zap.Int("cantidad", 150), zap.String("error", "a|\n"), zap.Duration("duracion", time.Second))
	if strings.Count(out, "\n") != 1 {
		t.Errorf("not one line: %q", out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"action": "apuesta_recibida", "result": "success", "level": "info",
		"cantidad": 150.0, "error": "a|\n", "duracion": "1s",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["time"]))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("time is %v", got["time"])
	}
}

// writes keeps every write.
type writes struct{ all [][]byte }

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

// A process that is killed while it writes to a full pipe leaves only whole lines there: each write
// has only whole lines, and is short enough for a pipe to take it whole.
func TestLogWritesWholeLines(t *testing.T) {
	for _, format := range []string{"line", "json"} {
		out := new(writes)
		log, closeLog, err := newLogger(logConfig{Level: "info", Format: format}, out)
		if err != nil {
			t.Fatal(err)
		}
		const count = 10_000 // several buffers full
		longest := strings.Repeat("x", 3*logWriteBytes)
		for i := range count {
			length := i % 200
			if i%1000 == 999 {
				length = len(longest) - i/1000
			}
			log.Info("apuesta_recibida", zap.String("result", "success"),
				zap.String("texto", longest[:length]), zap.Int("linea", i))
		}
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, written := range out.all {
			n := bytes.Count(written, []byte("\n"))
			if len(written) == 0 || written[len(written)-1] != '\n' ||
				len(written) > logWriteBytes && n > 1 {
				t.Fatalf("%s: %d bytes with %d line ends are written at once, from %.80q on",
					format, len(written), n, written)
			}
			seen += n
		}
		if seen != count {
			t.Errorf("%s: %d lines are written, want %d", format, seen, count)
		}
		if few := len(out.all); few > count/10 {
			t.Errorf("%s: %d writes for %d lines", format, few, count)
		}
	}
}

// shortWriter takes so many bytes, and then returns errShort.
type shortWriter struct{ takes int }

var errShort = errors.New("short")

func (w *shortWriter) Write(p []byte) (int, error) {
	if n := min(w.takes, len(p)); n < len(p) {
		w.takes -= n
		return n, errShort
	}
	w.takes -= len(p)
	return len(p), nil
}

func TestWholeLinesReportsWhatWasWritten(t *testing.T) {
	text := []byte(strings.Repeat("a line of the log\n", 1000))
	for _, takes := range []int{0, 1, logWriteBytes, logWriteBytes + 1, len(text) - 1, len(text)} {
		n, err := wholeLines{&shortWriter{takes}}.Write(text)
		if n != takes || errors.Is(err, errShort) != (takes < len(text)) {
			t.Errorf("of a writer that takes %d bytes: %d, %v", takes, n, err)
		}
	}
}
