package dataset

import (
	"math/bits"
	"math/rand/v2"
	"strconv"
	"time"
)

// Who plays. Documents follow the days of birth at the pace at which Argentina
// has handed them out, so that both years give 8 digits.
const (
	birthYearMin = 1952
	birthYearMax = 2006

	documentMin       = 10_000_000
	documentsPerDay   = 1_850
	documentsScatter  = 300_000 // people are registered sooner or later after birth
	secondGivenOneIn  = 3       // one person in so many has a second given name
	secondFamilyOneIn = 8       // one person in so many uses both family names
)

// leapDay is the index of 02-29 in monthDays.
const leapDay = 31 + 28

// monthDays holds "-MM-DD" of every day of a leap year.
var monthDays = func() (days [366]string) {
	const leapYear = 2000
	for i := range days {
		days[i] = time.Date(leapYear, time.January, 1+i, 0, 0, 0, 0, time.UTC).Format("-01-02")
	}
	return days
}()

// generator makes the bets of one agency, in order.
type generator struct {
	random        rand.PCG
	winningNumber uint64
	// winnersLeft of the betsLeft bets still to come are winners;
	// winnersLeft <= betsLeft.
	betsLeft, winnersLeft uint64
}

// newGenerator expects an agency that s.validateAgency accepts.
func newGenerator(s Spec, agency int) *generator {
	share := s.Agencies[agency-1]
	return &generator{
		// The agency is half of the seed: its bets don't depend on how many
		// draws other agencies need.
		random:        *rand.NewPCG(s.Seed, uint64(agency)),
		winningNumber: uint64(s.WinningNumber),
		betsLeft:      uint64(share.Bets),
		winnersLeft:   uint64(share.Winners),
	}
}

// appendBet appends the next bet as a row of CSV with its line end.
// At most share.Bets calls are allowed.
func (g *generator) appendBet(row []byte) []byte {
	row = g.appendGivenNames(row)
	row = append(row, ',')
	row = g.appendFamilyNames(row)
	row = append(row, ',')
	row = g.appendPerson(row)
	row = append(row, ',')
	row = strconv.AppendUint(row, g.number(), 10)
	return append(row, '\r', '\n')
}

func (g *generator) appendGivenNames(row []byte) []byte {
	draw := g.draw()
	names := givenNames[draw.below(uint64(len(givenNames)))]
	first := draw.common(names)
	row = append(row, first...)
	if draw.below(secondGivenOneIn) == 0 {
		// A compound name such as María José is not prolonged, and nobody is
		// called Juan Juan.
		if second := draw.common(names); second != first && !isCompound(first) && !isCompound(second) {
			row = append(row, ' ')
			row = append(row, second...)
		}
	}
	return row
}

func (g *generator) appendFamilyNames(row []byte) []byte {
	draw := g.draw()
	row = append(row, draw.common(familyNames)...)
	if draw.below(secondFamilyOneIn) == 0 {
		row = append(row, ' ')
		row = append(row, draw.common(familyNames)...)
	}
	return row
}

// appendPerson appends document and birthdate.
func (g *generator) appendPerson(row []byte) []byte {
	draw := g.draw()
	year := birthYearMin + draw.below(birthYearMax-birthYearMin+1)
	var day uint64
	if year%4 == 0 { // true of the leap years between birthYearMin and birthYearMax
		day = draw.below(366)
	} else if day = draw.below(365); day >= leapDay {
		day++
	}
	document := documentMin + documentsPerDay*(365*(year-birthYearMin)+day) + draw.below(documentsScatter)

	row = strconv.AppendUint(row, document, 10)
	row = append(row, ',')
	row = strconv.AppendUint(row, year, 10)
	return append(row, monthDays[day]...)
}

// number decides whether the bet wins by selection sampling (Knuth, TAOCP 3.4.2,
// algorithm S): exactly the planned winners come out, at random places, without
// remembering any.
func (g *generator) number() uint64 {
	draw := g.draw()
	wins := draw.below(g.betsLeft) < g.winnersLeft
	g.betsLeft--
	number := draw.below(NumberMax) // one number fewer than there are: the winning one is skipped
	switch {
	case wins:
		g.winnersLeft--
		return g.winningNumber
	case number >= g.winningNumber:
		return number + 1
	default:
		return number
	}
}

// draw starts a handful of dependent draws from one random word.
func (g *generator) draw() draw { return draw(g.random.Uint64()) }

// draw is a fraction of 2^64 that is used up digit by digit, in whatever base
// each digit needs. The bases of one word multiply to 2^40 at most (10^8 bets,
// 10^4 numbers), so digits are even to one part in 2^24.
type draw uint64

// below returns a number from 0 to n-1.
func (d *draw) below(n uint64) uint64 {
	digit, rest := bits.Mul64(uint64(*d), n)
	*d = draw(rest)
	return digit
}

// common returns one of names, the earlier ones more often: of a hundred names
// the first comes up for one person in twenty.
func (d *draw) common(names []string) string {
	return names[d.below(d.below(uint64(len(names)))+1)]
}
