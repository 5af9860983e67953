package agency

import (
	"math/rand/v2"
	"slices"
	"testing"

	"loteria/codec"
)

// testLine returns the bet with index i. All bets have the same length.
func testLine(i int64) []byte {
	document := []byte("10000000")
	for d := len(document) - 1; i > 0; d-- {
		document[d] = '0' + byte(i%10)
		i /= 10
	}
	return codec.AppendBet(nil, codec.Bet{
		FirstName: []byte("Ana"), LastName: []byte("Paz"), Document: document,
		Birthdate: []byte("2000-01-01"), Number: []byte("7"), Agency: testAgency,
	})
}

const (
	testAgency    codec.Agency = 7
	testLineBytes              = int64(len("Ana|Paz|10000000|2000-01-01|7|7\n"))
)

// testBatch returns a batch of the bets first to first+count-1. Bet i is in line i+1 of the input.
func testBatch(first int64, count int) *Batch {
	b := &Batch{First: first}
	for i := first; i < first+int64(count); i++ {
		b.Lines = append(append(b.Lines, testLine(i)...), '\n')
		b.Rows = append(b.Rows, int(i)+1)
	}
	return b
}

func TestWindowOrder(t *testing.T) {
	w := window{framesMax: 2}
	for i := range int64(3) {
		w.push(testBatch(i, 1))
	}
	if w.roomy() {
		t.Error("roomy with more batches than frames")
	}
	if w.oldest() != nil || w.answered() != nil {
		t.Error("an answer before anything was sent")
	}
	firsts := []int64{w.next().First, w.next().First}
	if !slices.Equal(firsts, []int64{0, 1}) {
		t.Errorf("sent %v, want 0 and 1", firsts)
	}
	if b := w.next(); b != nil {
		t.Errorf("sent %d although the window is full", b.First)
	}
	if b := w.answered(); b.First != 0 {
		t.Errorf("answered %d, want 0", b.First)
	}
	if b := w.next(); b == nil || b.First != 2 {
		t.Errorf("sent %v after an answer, want 2", b)
	}
	w.unsend()
	if b := w.next(); b.First != 1 {
		t.Errorf("sent %d on the next connection, want the oldest, 1", b.First)
	}
}

// After the window has shrunk, nothing is sent until enough answers have come.
func TestWindowShrinks(t *testing.T) {
	w := window{framesMax: 3}
	for i := range int64(4) {
		w.push(testBatch(i, 1))
	}
	for w.next() != nil {
	}
	w.framesMax = 1
	for want := range int64(3) {
		if b := w.next(); b != nil {
			t.Fatalf("sent %d over the window", b.First)
		}
		if b := w.answered(); b.First != want {
			t.Fatalf("answered %d, want %d", b.First, want)
		}
	}
	if b := w.next(); b == nil || b.First != 3 {
		t.Fatalf("sent %v, want 3", b)
	}
}

func TestWindowRefit(t *testing.T) {
	two := int(2*testLineBytes - 1) // two bets without the last '\n'
	tests := []struct {
		name            string
		batches         [][2]int64 // first, count
		stored          int64
		payloadBytesMax int
		want            [][2]int64
	}{
		{"nothing stored", [][2]int64{{0, 3}, {3, 3}}, 0, 1000, [][2]int64{{0, 3}, {3, 3}}},
		{"a batch boundary", [][2]int64{{0, 3}, {3, 3}}, 3, 1000, [][2]int64{{3, 3}}},
		{"inside the first", [][2]int64{{0, 3}, {3, 3}}, 1, 1000, [][2]int64{{1, 2}, {3, 3}}},
		{"inside the second", [][2]int64{{0, 3}, {3, 3}}, 5, 1000, [][2]int64{{5, 1}}},
		{"all", [][2]int64{{0, 3}, {3, 3}}, 6, 1000, nil},
		{"more than all", [][2]int64{{0, 3}, {3, 3}}, 9, 1000, nil},
		{"split", [][2]int64{{0, 3}, {3, 4}}, 0, two, [][2]int64{{0, 2}, {2, 1}, {3, 2}, {5, 2}}},
		{"split one byte less", [][2]int64{{0, 3}}, 0, two - 1, [][2]int64{{0, 1}, {1, 1}, {2, 1}}},
		{"skip and split", [][2]int64{{0, 4}}, 1, two, [][2]int64{{1, 2}, {3, 1}}},
		{"skip until it fits", [][2]int64{{0, 4}}, 2, two, [][2]int64{{2, 2}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := window{framesMax: 10}
			for _, b := range test.batches {
				w.push(testBatch(b[0], int(b[1])))
				w.next()
			}
			w.refit(test.stored, test.payloadBytesMax)
			if w.sent != 0 {
				t.Errorf("%d batches count as sent", w.sent)
			}
			var got [][2]int64
			for _, b := range w.queue {
				got = append(got, [2]int64{b.First, int64(b.Count())})
				checkBatch(t, b)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// checkBatch fails unless the batch holds the bets that First and Count say.
func checkBatch(t *testing.T, b *Batch) {
	t.Helper()
	want := testBatch(b.First, b.Count())
	if string(b.Lines) != string(want.Lines) || !slices.Equal(b.Rows, want.Rows) {
		t.Errorf("batch at %d of %d has\n%swant\n%s", b.First, b.Count(), b.Lines, want.Lines)
	}
}

// The window behaves like a simple model, which is three counters.
func TestWindowRandom(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := window{framesMax: 1 + rng.IntN(4)}
		var pushed, sent, answered int64
		for range 200 {
			switch rng.IntN(4) {
			case 0:
				if roomy := pushed-answered < int64(w.framesMax); roomy != w.roomy() {
					t.Fatalf("seed %d: roomy is %v", seed, w.roomy())
				}
				if w.roomy() {
					w.push(testBatch(pushed, 1))
					pushed++
				}
			case 1:
				may := sent < pushed && sent-answered < int64(w.framesMax)
				b := w.next()
				if may != (b != nil) || may && b.First != sent {
					t.Fatalf("seed %d: next is %v; %d pushed, %d sent, %d answered, %d frames", seed, b, pushed, sent, answered, w.framesMax)
				}
				if may {
					sent++
				}
			case 2:
				b := w.answered()
				if (b != nil) != (answered < sent) || b != nil && b.First != answered {
					t.Fatalf("seed %d: answered is %v; %d pushed, %d sent, %d answered", seed, b, pushed, sent, answered)
				}
				if b != nil {
					answered++
				}
			case 3:
				if rng.IntN(10) == 0 {
					w.unsend()
					sent = answered
				}
			}
		}
	}
}
