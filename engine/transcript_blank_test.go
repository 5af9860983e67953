package engine_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"loteria/codec"
)

// blank is a place in a step's bytes that is only known when the draw is
// played: hexadecimal digits of a challenge or of its proof.
type blank struct {
	at     int
	proof  bool // else a challenge
	agency codec.Agency
	secret codec.Secret
	from   string // of a proof: the connection that was challenged; empty: the step's own
}

// blankDigits is how long a blank is. In a step's bytes it is that many zeros.
const blankDigits = 2 * codec.NonceBytes

var (
	zeros     = fmt.Sprintf("%0*d", blankDigits, 0)
	blankText = regexp.MustCompile(`\{(?:challenge|proof (\d+) (\S+?)(?: (\w+))?)\}`)
)

var errBlank = errors.New("want {challenge}, {proof AGENCY SECRET} or {proof AGENCY SECRET CONNECTION}")

// parseBytes reads bytes with escapes and blanks.
func parseBytes(s string) (data []byte, blanks []blank, err error) {
	for {
		at := blankText.FindStringSubmatchIndex(s)
		if at == nil {
			break
		}
		before, err := unescape(s[:at[0]])
		if err != nil {
			return nil, nil, err
		}
		data = append(data, before...)
		b := blank{at: len(data), proof: at[2] >= 0}
		if b.proof {
			var ok bool
			if b.agency, ok = codec.ParseAgency([]byte(s[at[2]:at[3]])); !ok {
				return nil, nil, errBlank
			}
			if b.secret, err = codec.ParseSecret([]byte(s[at[4]:at[5]])); err != nil {
				return nil, nil, err
			}
			if at[6] >= 0 {
				b.from = s[at[6]:at[7]]
			}
		}
		data, blanks = append(data, zeros...), append(blanks, b)
		s = s[at[1]:]
	}
	rest, err := unescape(s)
	return append(data, rest...), blanks, err
}

// fill makes the bytes to be sent: proofs of the challenges that the play's
// connections were given last.
func (p *play) fill(s step) ([]byte, error) {
	out := append([]byte(nil), s.bytes...)
	for _, b := range s.blanks {
		from := s.conn
		if b.from != "" {
			from = b.from
		}
		nonce, ok := p.challenges[from]
		if !ok || !b.proof {
			return nil, fmt.Errorf("%s was not challenged, or this is no proof: %w", from, errBlank)
		}
		proof := b.secret.Prove(nonce, b.agency)
		hex.Encode(out[b.at:], proof[:])
	}
	return out, nil
}

// learn takes a challenge from what was received.
func (p *play) learn(s step, got []byte) error {
	for _, b := range s.blanks {
		var nonce codec.Nonce
		if _, err := hex.Decode(nonce[:], got[b.at:b.at+blankDigits]); err != nil || b.proof {
			return errors.Join(errBlank, err)
		}
		for conn, earlier := range p.challenges {
			if earlier == nonce {
				return fmt.Errorf("the challenge %x has been used before, for %s", nonce, conn)
			}
		}
		p.challenges[s.conn] = nonce
	}
	return nil
}

// matches reports whether got is what want begins with, whatever its blanks hold.
func matches(want []byte, blanks []blank, got []byte) bool {
	for i, c := range got {
		inBlank := false
		for _, b := range blanks {
			inBlank = inBlank || b.at <= i && i < b.at+blankDigits
		}
		if c != want[i] && !inBlank {
			return false
		}
	}
	return true
}
