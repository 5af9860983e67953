package commit

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// testStageBytesMax is a stage's bytesMax with the default settings and two loops.
const testStageBytesMax = 2 << 20

// newTestStage makes a stage and its committer's wake channel.
func newTestStage() (*Stage, <-chan struct{}) {
	wake := make(chan struct{}, 1)
	return newStage(wake, testStageBytesMax, RequestsMax), wake
}

func bets(p *Peer, agency codec.Agency, count int) Request {
	return Request{Peer: p, Kind: lottery.Bets, Agency: agency, Count: count}
}

// refusal answers a message with an error.
func refusal(p *Peer, code codec.Code, detail string) Request {
	return Request{Peer: p, Kind: Answer, Reply: lottery.Reject, Code: code, Detail: detail}
}

// Requests come out in order, and their bytes are copies.
func TestStageKeepsOrderAndBytes(t *testing.T) {
	st, wake := newTestStage()
	s := new(Peer)
	payload, winners := []byte("first payload"), []byte("winner 1\n")
	st.Add(bets(s, 1, 2), payload, winners)
	copy(payload, "XXXXXXXXXXXXX")
	copy(winners, "XXXXXXXXX")
	st.Add(refusal(s, codec.CodeEmptyBatch, "why"), nil, nil)
	st.Add(bets(s, 3, 4), []byte("second"), nil)

	select {
	case <-wake:
	default:
		t.Error("the committer wasn't woken")
	}
	b := st.take(new(intake))
	if len(b.requests) != 3 {
		t.Fatalf("%d requests", len(b.requests))
	}
	for i, want := range []struct {
		record  []byte
		winners string
	}{
		{ledger.AppendRecord(nil, ledger.Bets, 1, 2, []byte("first payload")), "winner 1\n"},
		{nil, ""},
		{ledger.AppendRecord(nil, ledger.Bets, 3, 4, []byte("second")), ""},
	} {
		r := b.requests[i]
		if got := r.records.of(b.records); !bytes.Equal(got, want.record) {
			t.Errorf("request %d: record %q, want %q", i, got, want.record)
		}
		if got := r.winners.of(b.winners); string(got) != want.winners {
			t.Errorf("request %d: winners %q, want %q", i, got, want.winners)
		}
	}
	if r := b.requests[1]; r.Kind != Answer || r.Code != codec.CodeEmptyBatch || r.Detail != "why" {
		t.Errorf("refusal became %+v", r)
	}
	if next := st.take(b); len(next.requests) != 0 {
		t.Errorf("taken twice: %d requests", len(next.requests))
	}
}

// An intake that is used again forgets what it held, including pointers.
func TestIntakeReset(t *testing.T) {
	st, _ := newTestStage()
	st.Add(bets(new(Peer), 1, 1), []byte("payload"), []byte("winner\n"))
	b := st.take(new(intake))
	b.reset()
	if len(b.requests)+len(b.records)+len(b.winners) != 0 {
		t.Errorf("not empty: %+v", b)
	}
	if b.requests[:1][0].Peer != nil {
		t.Error("the session is still referred to")
	}
}

// The committer is woken once for any number of requests, and again after a take.
func TestStageWakes(t *testing.T) {
	st, wake := newTestStage()
	for range 2 {
		for range 3 {
			st.Add(refusal(nil, codec.CodeEmptyBatch, ""), nil, nil)
		}
		<-wake
		select {
		case <-wake:
			t.Error("woken twice")
		default:
		}
		st.take(new(intake))
	}
}

// Between Hold and Release the committer sleeps. Release wakes it once if something was added.
func TestStageHold(t *testing.T) {
	st, wake := newTestStage()
	awake := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	st.Hold()
	st.Release()
	if awake() {
		t.Error("woken for nothing")
	}
	st.Hold()
	for range 3 {
		st.Add(Request{Kind: lottery.Taken}, nil, nil)
	}
	if awake() {
		t.Error("woken while held")
	}
	st.Release()
	if !awake() || awake() {
		t.Error("not woken once by the release")
	}
	st.take(new(intake))
	if st.Add(Request{Kind: lottery.Taken}, nil, nil); !awake() {
		t.Error("not woken after the release")
	}
}

// A loop that finds its stage full wakes the committer in spite of Hold. Otherwise both would wait
// for ever.
func TestStageHoldUntilFull(t *testing.T) {
	for _, test := range fillings {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, wake := newTestStage()
				st.Hold()
				test.fill(st)
				added := make(chan bool, 1)
				go func() { added <- test.more(st) }()
				<-wake
				st.take(new(intake))
				if !<-added {
					t.Error("the stage refused, want it taken")
				}
			})
		})
	}
}

// An intake's records begin small, and get all the memory that they may have when they become
// large. They keep their bytes, and their memory is used again. One record over the limit gets what
// it needs.
func TestStageGrows(t *testing.T) {
	st, _ := newTestStage()
	payload := bytes.Repeat([]byte{'x'}, 64<<10)
	add := func() { st.Add(bets(nil, 1, 1), payload, nil) }
	if add(); cap(st.filling.records) > growBytesMax {
		t.Errorf("room for %d bytes for one record", cap(st.filling.records))
	}
	for len(st.filling.records) <= growBytesMax {
		add()
	}
	if got := cap(st.filling.records); got != testStageBytesMax {
		t.Errorf("room for %d bytes once there are more than %d, want %d", got, growBytesMax, testStageBytesMax)
	}
	first := &st.filling.records[0]
	for len(st.filling.records)+ledger.RecordBytes(len(payload)) <= testStageBytesMax {
		add()
	}
	b := st.take(new(intake))
	for i := range b.requests {
		if record := b.requests[i].records.of(b.records); !bytes.Contains(record, payload) {
			t.Fatalf("record %d does not hold its payload any more", i)
		}
	}
	b.reset()
	st.take(b)
	if add(); &st.filling.records[0] != first {
		t.Error("an intake that is used again has other memory")
	}
	st.take(new(intake))
	st.Add(bets(nil, 1, 1), make([]byte, testStageBytesMax+1), nil)
	if got := len(st.filling.records); got < testStageBytesMax {
		t.Errorf("a record over the limit takes %d bytes", got)
	}
}

// fillings are ways to fill a stage. fill adds all that goes in without waiting, more one more.
var fillings = []struct {
	name string
	fill func(*Stage)
	more func(*Stage) bool
}{
	{
		"requests",
		func(st *Stage) {
			for range RequestsMax {
				st.Add(refusal(nil, codec.CodeEmptyBatch, ""), nil, nil)
			}
		},
		func(st *Stage) bool { return st.Add(refusal(nil, codec.CodeInvalidBatch, ""), nil, nil) },
	},
	{
		"bytes",
		func(st *Stage) {
			payload := make([]byte, 64<<10)
			for n := ledger.RecordBytes(len(payload)); n <= testStageBytesMax; n += ledger.RecordBytes(len(payload)) {
				st.Add(bets(nil, 1, 1), payload, nil)
			}
		},
		func(st *Stage) bool { return st.Add(bets(nil, 2, 1), make([]byte, 64<<10), nil) },
	},
	{
		"one record that is larger than the limit",
		func(st *Stage) { st.Add(bets(nil, 1, 1), make([]byte, testStageBytesMax+1), nil) },
		func(st *Stage) bool { return st.Add(bets(nil, 2, 1), []byte{1}, nil) },
	},
}

// A full stage makes its loop wait until the committer takes the intake.
func TestStageWaitsForTake(t *testing.T) {
	for _, test := range fillings {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, _ := newTestStage()
				test.fill(st)
				filled := len(st.filling.requests)
				added := make(chan bool, 1)
				go func() { added <- test.more(st) }()
				synctest.Wait()
				select {
				case <-added:
					t.Fatal("a full stage took one more")
				default:
				}
				if full := st.take(new(intake)); len(full.requests) != filled {
					t.Errorf("%d requests taken, want %d", len(full.requests), filled)
				}
				if !<-added {
					t.Error("the stage refused, want it taken")
				}
				if next := st.take(new(intake)); len(next.requests) != 1 {
					t.Errorf("%d requests in the next intake, want the one that waited", len(next.requests))
				}
			})
		})
	}
}

// An intake that is full of bytes still takes requests without bytes: their number has its own
// bound.
func TestStageFullOfBytesTakesOthers(t *testing.T) {
	st, _ := newTestStage()
	st.Add(bets(nil, 1, 1), make([]byte, testStageBytesMax-ledger.RecordBytes(0)), nil)
	if len(st.filling.records) != testStageBytesMax {
		t.Fatalf("%d bytes, want the limit", len(st.filling.records))
	}
	synctest.Test(t, func(t *testing.T) { // if Add waits for ever, synctest fails the test
		if !st.Add(Request{Kind: lottery.Leave}, nil, nil) {
			t.Error("refused")
		}
	})
}

// Closing a stage ends a waiting Add. The stage takes nothing more.
func TestStageClose(t *testing.T) {
	for _, test := range fillings {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, _ := newTestStage()
				test.fill(st)
				added := make(chan bool, 1)
				go func() { added <- test.more(st) }()
				synctest.Wait()
				st.Close()
				if <-added {
					t.Error("a closed stage took what waited")
				}
				st.take(new(intake))
				if test.more(st) {
					t.Error("a closed stage with room took one more")
				}
			})
		})
	}
}

// With a loop that is faster than the committer, everything comes through once and in order, and
// never more at once than the bounds say.
func TestStageConcurrently(t *testing.T) {
	const total = 5*RequestsMax + 7
	st, wake := newTestStage()
	go func() {
		s := new(Peer)
		payload := make([]byte, 300)
		for i := range total {
			st.Add(bets(s, 1, i), slices.Concat(payload, strconv.AppendInt(nil, int64(i), 10)), nil)
		}
	}()
	spare := new(intake)
	for next := 0; next < total; {
		<-wake
		spare.reset()
		spare = st.take(spare)
		if len(spare.requests) > RequestsMax || len(spare.records) > testStageBytesMax {
			t.Fatalf("%d requests, %d bytes at once", len(spare.requests), len(spare.records))
		}
		for i := range spare.requests {
			r := &spare.requests[i]
			if r.Count != next {
				t.Fatalf("request %d came as number %d", r.Count, next)
			}
			if record := r.records.of(spare.records); !bytes.Contains(record, fmt.Append(nil, next)) {
				t.Fatalf("request %d has another's record", next)
			}
			next++
		}
	}
}
