package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// What no relay reports is refused, and what breaks off is no report.
func TestReadReport(t *testing.T) {
	for _, test := range []struct {
		name, says string
		want       error
	}{
		{"nothing", "", io.EOF},
		{"unknown", "x", errReport},
		{"half a size", "s\x00", io.ErrUnexpectedEOF},
		{"nothing said", "s\x00\x00", errReport},
		{"too much said", "s\x80\x01", errReport},
		{"half a number", "a\x00\x00\x00\x00\x00\x00\x00", io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, _, err := readReport(bufio.NewReader(bytes.NewBufferString(test.says))); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// FuzzReports has a leader take anything for reports. It hears what is said in them, in order, and
// nothing else; and what it takes is what a relay would have written.
func FuzzReports(f *testing.F) {
	f.Add([]byte("s\x00\x03abca\x00\x00\x00\x00\x00\x00\x00\x07e"))
	f.Add([]byte("es\x00\x01ae"))
	f.Fuzz(func(t *testing.T, says []byte) {
		var again []byte
		in := bufio.NewReaderSize(bytes.NewReader(says), saidHeadBytes+saidBytesMax)
		for {
			kind, size, acknowledged, err := readReport(in)
			if err != nil {
				break
			}
			again = append(again, kind)
			switch kind {
			case reportSaid:
				again = binary.BigEndian.AppendUint16(again, uint16(size))
				said, err := in.Peek(size)
				again = append(again, said...)
				_, errDiscard := in.Discard(len(said))
				if errDiscard != nil || err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(errDiscard, err)
				}
			case reportAcknowledged:
				again = binary.BigEndian.AppendUint64(again, acknowledged)
			}
		}
		if !bytes.HasPrefix(says, again) {
			t.Errorf("%q is taken for %q", says, again)
		}
	})
}
