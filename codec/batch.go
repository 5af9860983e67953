package codec

import "bytes"

// Rules are what ParseBatch applies beside the protocol's fixed limits.
type Rules struct {
	// Today is the latest legal birthdate.
	Today Date
	// WinningNumber is compared, as an integer, with the number of each bet.
	WinningNumber uint32
}

// Batch describes the bets of a valid batch.
type Batch struct {
	// Agency is the agency that all lines name.
	Agency Agency
	// Count is the number of bets, at least 1.
	Count int
	// Winners is the number of bets that have the winning number.
	Winners int
}

// ParseBatch validates a payload of bets, one a line, by the protocol's rules.
//
// It appends the winning lines to winners, each followed by '\n', and returns the grown slice. If
// the batch is invalid, it returns winners with the length that it had. A valid batch allocates
// nothing as long as winners has room.
//
// The error is an *Error with one of three codes: CodeEmptyBatch; CodeInvalidBatch, with the first
// line that is not a bet; CodeInvalidAgency, if every line is a bet but they name several agencies.
func ParseBatch(payload []byte, rules Rules, winners []byte) (Batch, []byte, error) {
	var (
		batch  Batch
		before = len(winners)
		id     []byte // the first line's agency, as its bytes
		mixed  bool
		rest   = payload
		run    = presumeRun(payload, rules)
	)
	for len(rest) > 0 {
		n, count := run.scan(rest)
		if count == 0 {
			n, count = run.scanEnd(rest)
		}
		if count > 0 {
			if batch.Count == 0 {
				batch.Agency, id = run.agency, run.id
			}
			batch.Count += count
			rest = rest[n:]
			continue
		}
		n, number := scanBet(rest, rules.Today)
		if n == 0 {
			return Batch{}, winners[:before], explain(payload, rest, batch.Count+1, rules.Today)
		}
		// An id has only one spelling, so comparing bytes is enough.
		end := n + len(id)
		if len(id) == 0 || end > len(rest) || string(rest[n:end]) != string(id) || end < len(rest) && rest[end] != '\n' {
			end = len(rest)
			if i := bytes.IndexByte(rest[n:], '\n'); i >= 0 {
				end = n + i
			}
			agency, ok := ParseAgency(rest[n:end])
			switch {
			case !ok:
				return Batch{}, winners[:before], explain(payload, rest, batch.Count+1, rules.Today)
			case batch.Count == 0:
				batch.Agency, id = agency, rest[n:end]
				run = newOrdinaryRun(rules, agency, id)
			default:
				mixed = true
			}
		}
		batch.Count++
		if number == rules.WinningNumber {
			batch.Winners++
			winners = append(winners, rest[:end]...)
			winners = append(winners, '\n')
		}
		if end < len(rest) {
			end++ // the '\n'
		}
		rest = rest[end:]
	}
	switch {
	case batch.Count == 0:
		return Batch{}, winners, &Error{Code: CodeEmptyBatch}
	case mixed:
		return Batch{}, winners[:before], &Error{Code: CodeInvalidAgency}
	}
	return batch, winners, nil
}

// explain returns why the line at the start of rest is not a bet. It need not be fast: it runs only
// for rejected batches.
func explain(payload, rest []byte, number int, today Date) error {
	if len(bytes.Trim(payload, "\n")) == 0 {
		return &Error{Code: CodeEmptyBatch}
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	_, err := ParseBet(line, today)
	if err == nil {
		panic("codec: ParseBatch rejects a line that ParseBet accepts: " + quote(line))
	}
	return &Error{Code: CodeInvalidBatch, Line: number, Reason: reason(err)}
}
