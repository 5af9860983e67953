package agency

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"loteria/codec"
)

// readRows reads the whole input as agency 7.
func readRows(input io.Reader) (lines []string, err error) {
	r := newRowReader("bets.csv", input, testAgency)
	for {
		line, err := r.appendBet(nil)
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
}

const (
	rowJuan  = "Juan,Pérez,12345678,1990-05-23,7574"
	lineJuan = "Juan|Pérez|12345678|1990-05-23|7574|7\n"
	rowLuz   = "Luz Clara,Gómez,87654321,1985-07-10,2311"
	lineLuz  = "Luz Clara|Gómez|87654321|1985-07-10|2311|7\n"
)

func TestRows(t *testing.T) {
	both := lineJuan + lineLuz
	tests := []struct{ name, input, want string }{
		{"LF", rowJuan + "\n" + rowLuz + "\n", both},
		{"CRLF", rowJuan + "\r\n" + rowLuz + "\r\n", both},
		{"mixed", rowJuan + "\r\n" + rowLuz + "\n", both},
		{"no final newline", rowJuan + "\n" + rowLuz, both},
		{"no final newline after CR", rowJuan + "\r\n" + rowLuz + "\r", both},
		{"BOM", "\ufeff" + rowJuan + "\n" + rowLuz + "\n", both},
		{"BOM before a quote", "\ufeff\"Juan\",Pérez,12345678,1990-05-23,7574\n", lineJuan},
		{"BOM only", "\ufeff", ""},
		{"empty", "", ""},
		{"empty lines", "\n\r\n" + rowJuan + "\n\n\r\n" + rowLuz + "\n\n", both},
		{"quoted", `"Juan","Pérez","12345678","1990-05-23","7574"` + "\r\n" + rowLuz, both},
		{"quoted without newline", `"Juan","Pérez","12345678","1990-05-23","7574"`, lineJuan},
		{"comma in quotes", `"Pérez, hijo",P,1,1990-05-23,1`, "Pérez, hijo|P|1|1990-05-23|1|7\n"},
		{"quote in quotes", `"Juan ""el flaco""",P,1,1990-05-23,1`, `Juan "el flaco"|P|1|1990-05-23|1|7` + "\n"},
		{"spaces stay", " Juan ,P,1,1990-05-23,1", " Juan |P|1|1990-05-23|1|7\n"},
	}
	for _, test := range tests {
		for how, input := range map[string]io.Reader{
			"whole": strings.NewReader(test.input), "by bytes": iotest.OneByteReader(strings.NewReader(test.input)),
		} {
			t.Run(test.name+" "+how, func(t *testing.T) {
				lines, err := readRows(input)
				if err != io.EOF {
					t.Fatalf("ends with %v", err)
				}
				if got := strings.Join(lines, ""); got != test.want {
					t.Errorf("got\n%swant\n%s", got, test.want)
				}
			})
		}
	}
}

func TestRowsBad(t *testing.T) {
	tests := []struct {
		name, row, reason string
	}{
		{"columns missing", "Juan,Pérez,12345678,1990-05-23", "4 columns, want 5: first name, last name, document, birthdate, number"},
		{"a column too many", rowJuan + ",7", "6 columns"},
		{"one column", "Juan", "1 columns"},
		{"separator in a name", "Ju|an,Pérez,12345678,1990-05-23,7574", `first name: has a vertical bar`},
		{"separator in a quoted name", `Juan,"Pé|rez",12345678,1990-05-23,7574`, `last name: has a vertical bar`},
		{"separator for a comma", "Juan,Pérez,12345678,1990-05-23|7574", `birthdate: has a vertical bar`},
		{"separator in a sixth column", rowJuan + ",|", `a column too many: has a vertical bar`},
		{"quote not closed", `"Juan,Pérez,12345678,1990-05-23,7574`, `quote`},
		{"line end in quotes", "\"Ju\nan\",Pérez,12345678,1990-05-23,7574", `quote`},
		{"bare quote", `Ju"an,Pérez,12345678,1990-05-23,7574`, `bare "`},
		{"a message for a name", "GET_WINNERS,Pérez,12345678,1990-05-23,7574", "first name: GET_WINNERS"},
		{"endless", strings.Repeat("x", rowBytesMax+1), "longer than 65536 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lines, err := readRows(strings.NewReader(rowJuan + "\r\n\r\n" + test.row + "\n" + rowLuz + "\n"))
			var bad *RowError
			if !errors.As(err, &bad) {
				t.Fatalf("ends with %v", err)
			}
			if bad.Name != "bets.csv" || bad.Line != 3 || !strings.Contains(bad.Reason, test.reason) {
				t.Errorf("got %q, want line 3 of bets.csv and %q", bad, test.reason)
			}
			if len(lines) != 1 {
				t.Errorf("%d rows before the bad one, want 1", len(lines))
			}
		})
	}
}

// A first line that looks like a header is an error that says what to do. Other bad rows keep their
// reason.
func TestHeader(t *testing.T) {
	const header = "looks like a header: remove it; the columns are first name, last name, document, birthdate, number"
	for _, test := range []struct{ name, input, want string }{
		{"Spanish", "nombre,apellido,documento,nacimiento,numero\r\n" + rowJuan, header},
		{"English", "first_name,last_name,document,birthdate,number\n" + rowJuan, header},
		{"quoted", `"First name","Last name","Document","Birthdate","Number"`, header},
		{"byte order mark", "\ufeffNOMBRE,APELLIDO,DOCUMENTO,NACIMIENTO,NÚMERO\n", header},
		{"more columns", "agency,first_name,last_name,document,birthdate,number\n", header},
		{"fewer columns", "nombre,apellido,documento\n", "3 columns, want 5: first name, last name, document, birthdate, number"},
		{"another separator", "nombre;apellido;documento;nacimiento;numero\n", "1 columns, want 5: first name, last name, document, birthdate, number"},
		{"empty columns", "Juan,Pérez,,,\n", "document: is empty"},
		{"a bet with a mistake", "Juan,Pérez,x,1990-05-23,7574\n", "document: x is not a number"},
	} {
		for bets := 1; bets <= 2; bets++ {
			s, batches := readBatches(strings.NewReader(test.input), batchLimits{bets: bets, payloadBytes: 1000})
			var bad *RowError
			if !errors.As(s.err, &bad) || bad.Line != 1 || bad.Reason != test.want || len(batches) != 0 {
				t.Errorf("%s: %d batches, ends with %v, want line 1: %s", test.name, len(batches), s.err, test.want)
			}
		}
	}
	const other = "document: documento is not a number"
	for bets := 1; bets <= 3; bets++ {
		s, _ := readBatches(strings.NewReader(rowJuan+"\nnombre,apellido,documento,nacimiento,numero\n"), batchLimits{bets: bets, payloadBytes: 1000})
		var bad *RowError
		if !errors.As(s.err, &bad) || bad.Line != 2 || bad.Reason != other {
			t.Errorf("on line 2: ends with %v, want %s", s.err, other)
		}
	}
}

func TestRowsInputFails(t *testing.T) {
	broken := errors.New("disk on fire")
	lines, err := readRows(io.MultiReader(strings.NewReader(rowJuan+"\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "bets.csv, after line 1") || len(lines) != 1 {
		t.Errorf("got %q and %v", lines, err)
	}
}

// Rows that encoding/csv reads and that can be sent are read alike. Everything else is an error at
// the same row.
func FuzzRows(f *testing.F) {
	f.Add([]byte(rowJuan + "\r\n\n" + `"Luz ""Clara""",G,1,2000-01-01,"3"`))
	f.Add([]byte("\ufeff\"a\nb\",c,d,e,f\n"))
	f.Add([]byte("a,b,c,d\r\r\n\"\",,,,\r"))
	f.Add([]byte("a|b,c,d,e,f\nGET_WINNERS,,,,"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) >= rowBytesMax {
			t.Skip("the limit of a row is not encoding/csv's")
		}
		got, gotErr := readRows(strings.NewReader(string(input)))
		oracle := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(input), "\ufeff")))
		oracle.FieldsPerRecord = -1
		for i := 0; ; i++ {
			fields, err := oracle.Read()
			line := strings.Join(fields, "|") + "|7\n"
			if err != nil || len(fields) != 5 || strings.Count(line, "|") != 5 || strings.Count(line, "\n") != 1 || strings.HasPrefix(line, reservedPrefix) {
				if len(got) != i || (err == io.EOF) != (gotErr == io.EOF) {
					t.Fatalf("%q: read %q, then %v; encoding/csv has %d rows, then %q, %v", input, got, gotErr, i, fields, err)
				}
				return
			}
			if i >= len(got) || got[i] != line {
				t.Fatalf("%q: read %q, then %v; row %d should be %q", input, got, gotErr, i, line)
			}
		}
	})
}

// readBatches runs a source to its end.
func readBatches(input io.Reader, limits batchLimits) (*source, []*Batch) {
	today := func() codec.Date { return codec.DateOf(time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)) }
	s := newSource(newRowReader("bets.csv", input, testAgency), limits, 1, today)
	go s.run()
	var batches []*Batch
	for b := range s.batches {
		batches = append(batches, b)
	}
	return s, batches
}

func TestSourceBatches(t *testing.T) {
	const rows = 7
	var input strings.Builder
	for i := range int64(rows) {
		line := string(testLine(i))
		input.WriteString(strings.ReplaceAll(strings.TrimSuffix(line, "|7"), "|", ",") + "\n")
	}
	two := int(2*testLineBytes - 1)
	tests := []struct {
		name   string
		limits batchLimits
		want   []int
	}{
		{"by bets", batchLimits{3, 1000}, []int{3, 3, 1}},
		{"by bets, even", batchLimits{7, 1000}, []int{7}},
		{"by bytes", batchLimits{100, two}, []int{2, 2, 2, 1}},
		{"a byte less", batchLimits{100, two - 1}, []int{1, 1, 1, 1, 1, 1, 1}},
		{"a byte more", batchLimits{100, two + 1}, []int{2, 2, 2, 1}},
		{"both alike", batchLimits{2, two}, []int{2, 2, 2, 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, batches := readBatches(strings.NewReader(input.String()), test.limits)
			if s.err != nil || s.total != rows {
				t.Errorf("ends after %d bets with %v", s.total, s.err)
			}
			next := int64(0)
			for i, b := range batches {
				if i >= len(test.want) || b.Count() != test.want[i] || b.First != next {
					t.Errorf("batch %d has %d bets from %d on, want %v", i, b.Count(), b.First, test.want)
				}
				checkBatch(t, b)
				next = b.end()
			}
			if len(batches) != len(test.want) {
				t.Errorf("%d batches, want %d", len(batches), len(test.want))
			}
		})
	}
}

// A bad row stops its batch, but not the batches before it.
func TestSourceBadRow(t *testing.T) {
	good := rowJuan + "\n"
	tests := []struct{ name, row, reason string }{
		{"not a day", "Juan,Pérez,12345678,1990-02-30,1", "birthdate: 1990-02-30 is not a day"},
		{"tomorrow", "Juan,Pérez,12345678,2026-11-24,1", "birthdate: 2026-11-24 is in the future"},
		{"not a number", "Juan,Pérez,12345678,1990-02-03,siete", "number: siete is not a number"},
		{"empty name", ",Pérez,12345678,1990-02-03,1", "first name: is empty"},
		{"header", "nombre,apellido,documento,nacimiento,numero", "document: documento is not a number"},
		{"not UTF-8", "Jos\xe9,Pérez,12345678,1990-02-03,1", "first name:"},
		{"huge", strings.Repeat("x", 400) + ",Pérez,12345678,1990-02-03,1", "first name: 400 bytes"},
		{"columns", "Juan", "1 columns"},
	}
	for _, test := range tests {
		for before, want := range map[int]int{0: 0, 1: 0, 2: 1, 3: 1, 4: 2} {
			input := strings.Repeat(good, before) + "\n" + test.row + "\n" + good
			s, batches := readBatches(strings.NewReader(input), batchLimits{bets: 2, payloadBytes: 1000})
			var bad *RowError
			if !errors.As(s.err, &bad) || bad.Line != before+2 || !strings.Contains(bad.Reason, test.reason) {
				t.Errorf("%s after %d: ends with %v, want line %d: %s", test.name, before, s.err, before+2, test.reason)
			}
			if len(batches) != want {
				t.Errorf("%s after %d: %d batches, want %d", test.name, before, len(batches), want)
			}
		}
	}
	if s, batches := readBatches(strings.NewReader("Juan,Pérez,12345678,2026-11-23,1"), batchLimits{2, BatchBytesMin}); s.err != nil || len(batches) != 1 {
		t.Errorf("born today: %v", s.err)
	}
}
