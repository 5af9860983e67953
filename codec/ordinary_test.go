package codec

import (
	"strings"
	"testing"
)

// The fast path takes the lines that the comment at the top of ordinary.go lists. If it stopped
// taking them, no other test would notice: ParseBatch would only be slow.
func TestOrdinaryRun(t *testing.T) {
	tests := []struct {
		line string
		want bool
	}{
		{maria, true},
		{"A|B|12345678|1990-05-23|1|1", true},
		{"}|~|12345678|1990-05-23|1|1", true},
		{"Ñandú|Àÿ|12345678|1990-05-23|1234567|1", true},
		{strings.Repeat("x", 37) + "|y|12345678|1990-05-23|1234567|1", true},
		{"Ana|Paz|12345678|2024-02-28|1|1", true},
		{"Ana|Paz|12345678|2025-12-31|1|1", true},

		{strings.Repeat("x", 38) + "|y|12345678|1990-05-23|1234567|1", false},
		{"Anaž|Paz|12345678|1990-05-23|1|1", false},
		{"Ana€|Paz|12345678|1990-05-23|1|1", false},
		{"An\xc3\xc3|Paz|12345678|1990-05-23|1|1", false},
		{"An\xc3a|Paz|12345678|1990-05-23|1|1", false},
		{"An\xc2|Paz|12345678|1990-05-23|1|1", false},
		{"An\xc3|Paz|12345678|1990-05-23|1|1", false},
		{"\xa9Ana|Paz|12345678|1990-05-23|1|1", false},
		{"An\x7fa|Paz|12345678|1990-05-23|1|1", false},
		{"An\x1fa|Paz|12345678|1990-05-23|1|1", false},
		{"An\u00a0a|Paz|12345678|1990-05-23|1|1", false},
		{"Ana|Paz|1234567|1990-05-23|1|1", false},
		{"Ana|Paz|123456789|1990-05-23|1|1", false},
		{"Ana|Paz|12345678|2024-02-29|1|1", false},
		{"Ana|Paz|12345678|2026-01-01|1|1", false},
		{"Ana|Paz|12345678|1990-05-23|12345678|1", false},
		{"Ana|Paz|12345678|1990-05-23|7574|1", false},
		{"Ana|Paz|12345678|1990-05-23|07574|1", false},
		{"Ana|Paz|12345678|1990-05-23|1|2", false},
		{"Ana|Paz|12345678|1990-05-23|1|11", false},
		{"|Paz|12345678|1990-05-23|1|1", false},
		{"Ana||12345678|1990-05-23|1|1", false},
		{"Ana|12345678|1990-05-23|1|1", false},
	}
	run := newOrdinaryRun(testRules, 1, []byte("1"))
	for _, test := range tests {
		p := []byte(test.line + "\n" + strings.Repeat("?", ordinaryWindow))
		n, count := run.scan(p)
		if got := count == 1; got != test.want || got && n != len(test.line)+1 {
			t.Errorf("scan(%q) = %d, %d, want to take it: %v", test.line, n, count, test.want)
		}
		checkLine(t, test.line)
	}

	p := []byte(strings.Repeat(maria+"\n", 10))
	if n, count := run.scan(p); count != 9 || n != 9*len(maria)+9 {
		t.Errorf("scan of ten lines = %d, %d, want all but the last", n, count)
	}
	const ana = "Ana|Paz|12345678|1990-05-23|1|1"
	for _, end := range []string{"", "\n", "\n\n", "\nAna", "\nx|" + ana, "\n" + ana + "1", "\n" + ana, "\n" + ana + "\n"} {
		want := 1
		if strings.TrimSuffix(end, "\n") == "\n"+ana {
			want = 2
		}
		taken := strings.Repeat(ana+"\n", want)
		p := []byte(ana + end)
		if n, count := run.scanEnd(p); count != want || n != min(len(taken), len(p)) {
			t.Errorf("scanEnd(%q) = %d, %d, want %d lines", p, n, count, want)
		}
	}
	if n, count := run.scanEnd(p); n != 0 || count != 0 {
		t.Errorf("scanEnd of ten lines = %d, %d, want them left to scan", n, count)
	}
	if n, count := new(ordinaryRun).scanEnd([]byte(maria)); n != 0 || count != 0 {
		t.Errorf("scanEnd by the zero value = %d, %d, want nothing", n, count)
	}
	if n, count := new(ordinaryRun).scan(p); n != 0 || count != 0 {
		t.Errorf("scan by the zero value = %d, %d, want nothing", n, count)
	}
	for _, agency := range []string{"0", "1234567", "12345678", "999999999"} {
		id, _ := ParseAgency([]byte(agency))
		run := newOrdinaryRun(testRules, id, []byte(agency))
		p := []byte(strings.Repeat(maria[:len(maria)-1]+agency+"\n", 10))
		if _, count := run.scan(p); (count > 0) != (len(agency) <= 7) {
			t.Errorf("scan for agency %s takes %d lines", agency, count)
		}
		checkBatch(t, p, testRules)
	}
}

// Both ways to scan take the same lines, with any byte at any place of a line.
func TestScansTakeTheSame(t *testing.T) {
	behind := strings.Repeat("Ana|Paz|12345678|1990-05-23|1|1\n", 5)
	for _, line := range []string{
		maria,
		"A|B|12345678|1990-05-23|1|1",
		"A|b" + strings.Repeat("ñ", 14) + "|12345678|1990-05-23|1234567|1", // the second '|' is byte 31, counted from 0
		"A|" + strings.Repeat("ñ", 15) + "|12345678|1990-05-23|1234567|1",  // byte 32, after the first vector
		"A|b" + strings.Repeat("ñ", 15) + "|12345678|1990-05-23|123|1",     // an 'ñ' across the vector's end
		"A|" + strings.Repeat("ñ", 18) + "b|12345678|1990-05-23|1234567|1", // byte 39, the last one that scan reads
		"A|" + strings.Repeat("ñ", 19) + "|12345678|1990-05-23|1234567|1",  // byte 40
		strings.Repeat("ñ", 16) + "|" + "B|12345678|1990-05-23|7574|1",     // both '|' are after byte 31
		"Ana|Paz|12345678|1990-05-23|12345|1234567",
		"Ana|Paz|12345678|1990-05-23|12345|123456789",
	} {
		_, id, _ := strings.Cut(line[strings.LastIndexByte(line, '|'):], "|")
		agency, _ := ParseAgency([]byte(id))
		run := newOrdinaryRun(testRules, agency, []byte(id))
		p := []byte(line + "\n" + line + "\n" + behind)
		for at := range 2*len(line) + 2 {
			was := p[at]
			for c := range 256 {
				p[at] = byte(c)
				n, count := run.scan(p)
				if wantN, want := run.scanWords(p); n != wantN || count != want {
					t.Fatalf("scan(%q) = %d, %d, scanWords %d, %d", p, n, count, wantN, want)
				}
			}
			p[at] = was
		}
		for end := range p {
			n, count := run.scan(p[:end:end])
			if wantN, want := run.scanWords(p[:end]); n != wantN || count != want {
				t.Fatalf("scan(%q) = %d, %d, scanWords %d, %d", p[:end], n, count, wantN, want)
			}
		}
	}
}
