package ledger

import "sort"

// entryIndex says where each entry of a ledger stands. It takes 12 bytes of memory for each entry,
// 16 for each run of entries of the same term, and 24 for each segment.
type entryIndex struct {
	marks    []entryMark  // of entry 1 and so on
	terms    []termRun    // by the index of their first entry
	members  []uint64     // the indices of entries that hold a membership
	segments []segmentRun // all, by what they begin with
	end      entryPlace   // behind the last entry
}

// entryMark is where an entry's mark stands. A segment has at most 512 MB, or one large record, and
// fewer than 1<<24 records.
type entryMark struct {
	offset uint32 // in its segment
	record uint32 // how many records of the segment come before it
	chain  uint32 // the chain value before it, which is that behind the entry before
}

type termRun struct{ first, term uint64 }

// segmentRun is one segment.
type segmentRun struct {
	first uint64 // sequence number of its first record
	entry uint64 // index of the first entry whose mark stands in it, or would, if none does
	start int64  // how many bytes of records all earlier segments have
}

// entryPlace is a place between two entries.
type entryPlace struct {
	segment int    // which one, from 0
	offset  int64  // in it, where the next mark goes if there is room
	next    uint64 // sequence number of that mark
	chain   uint32 // chain value before it
}

func (x *entryIndex) last() uint64 { return uint64(len(x.marks)) }

// add takes an entry that ends at end. Its segments are known already. members says that it holds a
// membership.
func (x *entryIndex) add(term uint64, mark entryMark, members bool, end entryPlace) {
	x.marks = append(x.marks, mark)
	if members {
		x.members = append(x.members, x.last())
	}
	if n := len(x.terms); n == 0 || x.terms[n-1].term != term {
		x.terms = append(x.terms, termRun{x.last(), term})
	}
	x.end = end
}

// cut forgets all entries but those through last, which is not the last one.
func (x *entryIndex) cut(last uint64) {
	x.end = x.behind(last)
	x.marks = x.marks[:last]
	x.segments = x.segments[:x.end.segment+1]
	for n := len(x.terms); n > 0 && x.terms[n-1].first > last; n-- {
		x.terms = x.terms[:n-1]
	}
	for n := len(x.members); n > 0 && x.members[n-1] > last; n-- {
		x.members = x.members[:n-1]
	}
}

// lastMembers is the index of the last entry through last that holds a membership; 0 if none does.
func (x *entryIndex) lastMembers(last uint64) uint64 {
	n := sort.Search(len(x.members), func(i int) bool { return x.members[i] > last })
	if n == 0 {
		return 0
	}
	return x.members[n-1]
}

// term is that of an entry; 0 has the term 0.
func (x *entryIndex) term(index uint64) uint64 {
	n := sort.Search(len(x.terms), func(i int) bool { return x.terms[i].first > index })
	if n == 0 {
		return 0
	}
	return x.terms[n-1].term
}

// chain is the chain value behind an entry; behind 0 it is that behind the first record.
func (x *entryIndex) chain(index uint64) uint32 {
	if index == x.last() {
		return x.end.chain
	}
	return x.marks[index].chain
}

// at is where an entry's mark stands.
func (x *entryIndex) at(index uint64) entryPlace {
	n := sort.Search(len(x.segments), func(i int) bool { return x.segments[i].entry > index })
	mark := x.marks[index-1]
	return entryPlace{n - 1, int64(mark.offset), x.segments[n-1].first + uint64(mark.record), mark.chain}
}

// behind is where an entry ends. That is never the beginning of a segment, though its successor may
// stand there: what is written behind it must go where it would have gone without the successor.
func (x *entryIndex) behind(index uint64) entryPlace {
	if index == x.last() {
		return x.end
	}
	place := x.at(index + 1)
	if place.offset == segmentHeaderBytes {
		place.segment--
		place.offset = x.segmentEnd(place.segment)
	}
	return place
}

// segmentEnd is where the records of a segment that has a successor end.
func (x *entryIndex) segmentEnd(segment int) int64 {
	return segmentHeaderBytes + x.segments[segment+1].start - x.segments[segment].start
}

// position is how many bytes of records come before a place.
func (x *entryIndex) position(p entryPlace) int64 {
	return x.segments[p.segment].start + p.offset - segmentHeaderBytes
}
