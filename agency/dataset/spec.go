package dataset

import (
	"errors"
	"fmt"
)

const (
	// SeedDefault is the seed of the bundled dataset.
	SeedDefault = 1
	// WinningNumberDefault is the number that the winners of the bundled dataset play.
	WinningNumberDefault = 7574

	// NumberMax is the highest number that is played; the lowest is 0.
	NumberMax = 9999
	// AgenciesMax is the largest number of agencies in a dataset.
	AgenciesMax = 100_000
	// BetsMax is the largest number of bets in a dataset, over all agencies.
	BetsMax = 100_000_000
)

// ErrInvalidSpec says that a dataset can't be made as described. It comes wrapped, with the value
// and with what is legal.
var ErrInvalidSpec = errors.New("dataset: invalid")

// Spec describes a dataset completely: equal specs make equal bets. Start from [Default] or [Sized]
// and change fields as needed. Methods only read a Spec, so any number of goroutines may use one at
// once.
type Spec struct {
	// Seed picks one of the many datasets of this shape.
	Seed uint64
	// Agencies holds the share of agency 1 at index 0, and so on.
	Agencies []Share
	// WinningNumber, 0 to [NumberMax], is the number that only the planted winners play.
	WinningNumber int
}

// Share is how many bets and winners one agency has.
type Share struct {
	// Bets is the number of the agency's bets, including its winners; it may be 0.
	Bets int
	// Winners is the number of bets that play the winning number, at most Bets.
	Winners int
}

// defaultShares are the shares of the bundled dataset, and the pattern that Sized repeats.
var defaultShares = [...]Share{
	{Bets: 26_936, Winners: 2},
	{Bets: 25_518, Winners: 3},
	{Bets: 16_014, Winners: 3},
	{Bets: 9_238, Winners: 2},
	{Bets: 991, Winners: 0},
}

// Default returns the spec of the bundled dataset: 78,697 bets of five
// agencies, and ten winners.
func Default() Spec {
	return Spec{
		Seed:          SeedDefault,
		Agencies:      append([]Share(nil), defaultShares[:]...),
		WinningNumber: WinningNumberDefault,
	}
}

// Sized returns a spec of 1 to [AgenciesMax] agencies with 0 to [BetsMax] bets in all, and with the
// default's seed and winning number. The package comment says how it distributes bets and winners;
// with few bets some agencies get none. The error wraps [ErrInvalidSpec].
func Sized(agencies, bets int) (Spec, error) {
	if agencies < 1 || agencies > AgenciesMax {
		return Spec{}, fmt.Errorf("%w: %d agencies: choose 1 to %d", ErrInvalidSpec, agencies, AgenciesMax)
	}
	if bets < 0 || bets > BetsMax {
		return Spec{}, fmt.Errorf("%w: %d bets: choose 0 to %d", ErrInvalidSpec, bets, BetsMax)
	}

	var weights int64
	for i := range agencies {
		weights += int64(defaultShares[i%len(defaultShares)].Bets)
	}
	spec := Spec{
		Seed:          SeedDefault,
		Agencies:      make([]Share, agencies),
		WinningNumber: WinningNumberDefault,
	}
	// Each agency gets the bets between two marks on one scale, so rounding neither loses nor adds
	// a bet. The products stay below 2^58: weights of 1.6e9 times 1e8 bets.
	var weightsBefore, betsBefore int64
	for i := range spec.Agencies {
		pattern := defaultShares[i%len(defaultShares)]
		weightsBefore += int64(pattern.Bets)
		mark := int64(bets) * weightsBefore / weights
		share := mark - betsBefore
		betsBefore = mark

		weight := int64(pattern.Bets)
		winners := (share*int64(pattern.Winners) + weight - 1) / weight
		spec.Agencies[i] = Share{Bets: int(share), Winners: int(winners)}
	}
	return spec, nil
}

// Totals returns the bets and winners of all agencies together.
func (s Spec) Totals() Share {
	var total Share
	for _, share := range s.Agencies {
		total.Bets += share.Bets
		total.Winners += share.Winners
	}
	return total
}

// Validate returns [ErrInvalidSpec], wrapped with the first value that is not legal, or nil. Every
// function that writes a dataset calls it, or its part for one agency, before it writes anything.
func (s Spec) Validate() error {
	if len(s.Agencies) < 1 || len(s.Agencies) > AgenciesMax {
		return fmt.Errorf("%w: %d agencies: choose 1 to %d", ErrInvalidSpec, len(s.Agencies), AgenciesMax)
	}
	bets := 0
	for i, share := range s.Agencies {
		if err := s.validateAgency(i + 1); err != nil {
			return err
		}
		// Checked inside the loop, before the sum can overflow.
		if bets += share.Bets; bets > BetsMax {
			return fmt.Errorf("%w: more than %d bets: choose fewer", ErrInvalidSpec, BetsMax)
		}
	}
	return nil
}

// validateAgency checks what one agency's file depends on, in constant time.
func (s Spec) validateAgency(agency int) error {
	if agency < 1 || agency > len(s.Agencies) {
		return fmt.Errorf("%w: agency %d: choose 1 to %d", ErrInvalidSpec, agency, len(s.Agencies))
	}
	if s.WinningNumber < 0 || s.WinningNumber > NumberMax {
		return fmt.Errorf("%w: winning number %d: choose 0 to %d", ErrInvalidSpec, s.WinningNumber, NumberMax)
	}
	share := s.Agencies[agency-1]
	if share.Bets < 0 || share.Bets > BetsMax {
		return fmt.Errorf("%w: agency %d: %d bets: choose 0 to %d", ErrInvalidSpec, agency, share.Bets, BetsMax)
	}
	if share.Winners < 0 || share.Winners > share.Bets {
		return fmt.Errorf("%w: agency %d: %d winners: choose 0 to its %d bets", ErrInvalidSpec, agency, share.Winners, share.Bets)
	}
	return nil
}
