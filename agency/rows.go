package agency

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"loteria/codec"
)

// rowBytesMax limits a row of the input, in bytes, and is the size of the read buffer. Even the
// longest bet with quotes is far shorter.
const rowBytesMax = 64 << 10

// columns names the columns of the input, for people.
var columns = [...]string{"first name", "last name", "document", "birthdate", "number"}

const (
	byteOrderMark = "\xef\xbb\xbf"
	// reservedPrefix can't begin a batch. It can't begin a row, because any row may begin a batch.
	reservedPrefix = "GET_WINNERS"
)

// rowReader turns rows of CSV into lines of bets, in constant memory.
//
// encoding/csv makes a string of every row, which costs more than the rest of an upload. So
// rowReader itself splits rows without a quote, which nearly all are. No field of a bet may hold a
// line end, so a row is always one line, and an unclosed quote can't swallow the rest of the input.
type rowReader struct {
	name   string
	suffix []byte // "|<agency>\n"
	input  *bufio.Reader
	line   int // number of the line read last, from 1

	quoted     *csv.Reader // reads quotedLine
	quotedLine bytes.Reader
}

func newRowReader(name string, input io.Reader, id codec.Agency) *rowReader {
	r := &rowReader{
		name:   name,
		suffix: append(codec.AppendAgency([]byte{'|'}, id), '\n'),
		input:  bufio.NewReaderSize(input, rowBytesMax),
	}
	r.quoted = csv.NewReader(&r.quotedLine)
	r.quoted.FieldsPerRecord = -1
	r.quoted.ReuseRecord = true
	return r
}

// appendBet appends the next row to dst as a bet's line with its '\n'. It makes sure that the line
// has six fields, and validates nothing else. The error is io.EOF at the end of the input, and a
// *RowError for a row that can't be such a line. With an error it returns dst with its old length.
func (r *rowReader) appendBet(dst []byte) ([]byte, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return dst, err
		}
		// Like encoding/csv, cut off a '\r' without '\n' at the end of the input, too.
		row := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
		if len(row) == 0 {
			continue // encoding/csv skips empty lines too
		}
		start := len(dst)
		if bytes.IndexByte(row, '"') < 0 {
			dst, err = r.appendPlain(dst, row)
		} else {
			dst, err = r.appendQuoted(dst, line)
		}
		if err == nil && dst[start] == reservedPrefix[0] && bytes.HasPrefix(dst[start:], []byte(reservedPrefix)) {
			err = r.rowError(columns[0] + ": " + reservedPrefix + " is a message of the protocol")
		}
		if err != nil {
			if bad, ok := errors.AsType[*RowError](err); ok {
				bad.explainHeader(row, ',')
			}
			return dst[:start], err
		}
		return append(dst, r.suffix...), nil
	}
}

// explainHeader changes the reason if the bad row looks like a header: it is the first line, has at
// least as many columns as a bet, no empty column, and no digit.
func (e *RowError) explainHeader(row []byte, separator byte) {
	if e.Line != 1 || bytes.ContainsAny(row, "0123456789") {
		return
	}
	fields := bytes.Split(row, []byte{separator})
	if len(fields) < len(columns) || slices.ContainsFunc(fields, func(f []byte) bool { return len(f) == 0 }) {
		return
	}
	e.Reason = "looks like a header: remove it; the columns are " + strings.Join(columns[:], ", ")
}

// readLine reads a line with its '\n', if it has one. The slice is valid until the next call.
func (r *rowReader) readLine() ([]byte, error) {
	line, err := r.input.ReadSlice('\n')
	if len(line) > 0 || err == nil {
		r.line++
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, r.rowError(fmt.Sprintf("longer than %d bytes", rowBytesMax))
	case errors.Is(err, io.EOF) && len(line) > 0:
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("%s, after line %d: %w", r.name, r.line, err)
	}
	if r.line == 1 {
		line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	}
	return line, nil
}

// appendPlain appends a row without quotes.
func (r *rowReader) appendPlain(dst, row []byte) ([]byte, error) {
	if i := bytes.IndexByte(row, '|'); i >= 0 {
		return dst, r.separatorError(bytes.Count(row[:i], []byte{','}))
	}
	start, fields := len(dst), 1
	dst = append(dst, row...)
	for rest := dst[start:]; ; fields++ {
		i := bytes.IndexByte(rest, ',')
		if i < 0 {
			return dst, r.checkFields(fields)
		}
		rest[i] = '|'
		rest = rest[i+1:]
	}
}

// appendQuoted appends a row with quotes.
func (r *rowReader) appendQuoted(dst, line []byte) ([]byte, error) {
	r.quotedLine.Reset(line)
	fields, err := r.quoted.Read()
	if err != nil {
		reason := err.Error()
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			reason = fmt.Sprintf("byte %d: %v", parse.Column, parse.Err)
		}
		return dst, r.rowError(reason)
	}
	for i, field := range fields {
		if strings.IndexByte(field, '|') >= 0 {
			return dst, r.separatorError(i)
		}
		if i > 0 {
			dst = append(dst, '|')
		}
		dst = append(dst, field...)
	}
	return dst, r.checkFields(len(fields))
}

func (r *rowReader) checkFields(fields int) error {
	if fields == len(columns) {
		return nil
	}
	return r.rowError(fmt.Sprintf("%d columns, want %d: %s", fields, len(columns), strings.Join(columns[:], ", ")))
}

// separatorError reports a '|' in the field with that index. It says "vertical bar" because a log
// line can't show a '|'.
func (r *rowReader) separatorError(field int) error {
	column := "a column too many"
	if field < len(columns) {
		column = columns[field]
	}
	return r.rowError(column + ": has a vertical bar, which separates fields on the wire")
}

func (r *rowReader) rowError(reason string) error {
	return &RowError{Name: r.name, Line: r.line, Reason: reason}
}
