package main

import (
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// asked is a request in a history.
type asked struct {
	kind   askedKind
	agency int
	conn   int64  // that of the request
	lines  string // of a batch
}

type askedKind uint8

const (
	askHello askedKind = iota
	askBatch
	askWinners
	askDraw // a askWinners, as the draw sees it
)

// told is the answer to a request.
type told struct {
	isUnknown bool   // the connection ended before the answer
	answer    string // of the server; empty winners are an answer, too
}

// What servers answer, with nothing behind it.
const (
	toldAck     = "ACK"
	toldClosed  = "ERROR_BETS_CLOSED"
	toldNotYet  = "ERROR_LOTTERY_HASNT_ENDED"
	toldTaken   = "ERROR_AGENCY_TAKEN_OVER"
	toldElswhre = "ERROR_NOT_LEADER"
)

// historyState is an agency's state, or that of the draw.
type historyState struct {
	stored     int
	checksum   uint32
	won        string // the winners among the stored bets, in their order
	owner      int64  // the connection that has said HELLO last
	isReported bool
	isDrawn    bool
	reported   uint // by the draw: a bit for each agency
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// historyModel says which answers are right. Each agency is a part of a history by itself, and so is
// the draw, which only the questions for winners are about.
//
// Of a request without an answer nobody knows whether it has changed anything. So its effect comes
// at any later time, or behind all else, where nobody sees it.
func historyModel(agencies int) porcupine.Model {
	return porcupine.Model{
		Partition: partHistory,
		Init:      func() any { return historyState{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(historyState), input.(asked), output.(told)
			right := s.step(in, out, agencies)
			return right, s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	}
}

// step makes the state what it is behind a request, and reports whether the answer is right.
func (s *historyState) step(in asked, out told, agencies int) (isRight bool) {
	switch in.kind {
	case askHello:
		s.owner = in.conn
		return strings.HasPrefix(out.answer, fmt.Sprintf("WELCOME|%d|", s.stored)) &&
			strings.HasSuffix(out.answer, fmt.Sprintf("|%08x", s.checksum))
	case askBatch:
		takes := s.owner == in.conn && !s.isReported
		if takes && (out.isUnknown || out.answer == toldAck) {
			s.store(in.lines)
		}
		switch {
		case out.isUnknown:
			return true
		case out.answer == toldAck:
			return takes
		default:
			return out.answer == toldClosed && s.isReported
		}
	case askWinners:
		s.isReported = true
		if out.isUnknown || !s.isDrawn && out.answer == toldNotYet {
			return true
		}
		s.isDrawn = true
		return out.answer == s.won
	default: // askDraw
		s.reported |= 1 << in.agency
		all := s.reported == 1<<agencies-1
		return out.isUnknown || all == (out.answer != toldNotYet)
	}
}

func (s *historyState) store(lines string) {
	for line := range strings.SplitSeq(lines, "\n") {
		s.stored++
		s.checksum = crc32.Update(s.checksum, castagnoli, []byte(line+"\n"))
		if strings.Contains(line, "|7574|") {
			if s.won != "" {
				s.won += "\n"
			}
			s.won += line
		}
	}
}

// partHistory parts a history by agency, and adds the draw's part.
func partHistory(all []porcupine.Operation) (parts [][]porcupine.Operation) {
	byAgency := map[int][]porcupine.Operation{}
	var draw []porcupine.Operation
	for _, op := range all {
		in := op.Input.(asked)
		byAgency[in.agency] = append(byAgency[in.agency], op)
		if in.kind == askWinners {
			in.kind = askDraw
			op.Input = in
			draw = append(draw, op)
		}
	}
	for _, ops := range byAgency {
		parts = append(parts, boundUnknown(ops))
	}
	return append(parts, draw)
}

// boundUnknown drops and bounds requests without an answer where that makes no difference, because
// each of them doubles the ways to order the others.
func boundUnknown(ops []porcupine.Operation) (kept []porcupine.Operation) {
	is := func(op porcupine.Operation, kind askedKind, isUnknown bool) bool {
		return op.Input.(asked).kind == kind && op.Output.(told).isUnknown == isUnknown
	}
	// Once an answer says that the agency has reported, another report changes nothing.
	reported := int64(math.MaxInt64)
	for _, op := range ops {
		if is(op, askWinners, false) {
			reported = min(reported, op.Return)
		}
	}
	for _, op := range ops {
		switch {
		case is(op, askHello, true):
			// It may have taken the agency over. Only a batch of the connection before would tell, and
			// of batches that are refused for it, nothing is in the history.
			continue
		case is(op, askWinners, true) && op.Call > reported:
			continue
		case is(op, askBatch, true):
			// A connection that says HELLO later, and is welcomed, ends the time in which it can be
			// stored.
			for _, other := range ops {
				if is(other, askHello, false) && other.Call > op.Call {
					op.Return = min(op.Return, other.Return)
				}
			}
		}
		kept = append(kept, op)
	}
	slices.SortFunc(kept, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	return kept
}
