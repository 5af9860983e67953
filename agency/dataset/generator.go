package dataset

import (
	"math/bits"
	"math/rand/v2"
	"strconv"
	"time"
)

// The people who play. Document numbers grow with the day of birth, as in Argentina, so documents
// of both years have 8 digits.
const (
	birthYearMin = 1952
	birthYearMax = 2006

	documentMin       = 10_000_000
	documentsPerDay   = 1_850
	documentsScatter  = 300_000 // some people are registered later after birth than others
	secondGivenOneIn  = 3       // about one person in so many has a second given name
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
	// betsLeft bets are still to come, and winnersLeft of them win: winnersLeft <= betsLeft.
	betsLeft, winnersLeft uint64
}

// newGenerator returns the generator of an agency that s.validateAgency accepts.
func newGenerator(s Spec, agency int) *generator {
	share := s.Agencies[agency-1]
	return &generator{
		// The agency's id is half of the seed, so its bets don't depend on how many random words
		// other agencies need.
		random:        *rand.NewPCG(s.Seed, uint64(agency)),
		winningNumber: uint64(s.WinningNumber),
		betsLeft:      uint64(share.Bets),
		winnersLeft:   uint64(share.Winners),
	}
}

// appendBet appends the next bet as a row of CSV with its line end. It may be called at most
// share.Bets times.
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
		// A compound name such as María José gets no second name, and nobody is called Juan Juan.
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
	if year%4 == 0 { // a leap year, for all years from birthYearMin to birthYearMax
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

// number returns the bet's number. Selection sampling (Knuth, TAOCP 3.4.2, algorithm S) decides
// whether the bet wins: it makes exactly the planned number of winners, at random places, in
// constant memory.
func (g *generator) number() uint64 {
	draw := g.draw()
	wins := draw.below(g.betsLeft) < g.winnersLeft
	g.betsLeft--
	number := draw.below(NumberMax) // one fewer than there are: the winning number is skipped
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

// draw takes one random word for several draws.
func (g *generator) draw() draw { return draw(g.random.Uint64()) }

// draw is a random word, read as a fraction of 2^64. Each call of below takes the next digit of the
// fraction, in base n. The bases of one word multiply to at most 2^40 (10^8 bets, 10^4 numbers), so
// digits are uniform to one part in 2^24.
type draw uint64

// below returns a number from 0 to n-1.
func (d *draw) below(n uint64) uint64 {
	digit, rest := bits.Mul64(uint64(*d), n)
	*d = draw(rest)
	return digit
}

// common returns one of names, and early ones more often: of a hundred names, one person in twenty
// gets the first.
func (d *draw) common(names []string) string {
	return names[d.below(d.below(uint64(len(names)))+1)]
}
