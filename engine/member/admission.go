package member

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"loteria/engine/ledger"
)

const (
	// askEvery is how long a server waits for answers before it asks again.
	askEvery = 200 * time.Millisecond
	// sayEvery is how often the log names the servers that have not answered.
	sayEvery = 5 * time.Second
	// answersMax is how many answers wait for Join.
	answersMax = 64
)

// enough reports whether a server may take part that was told these yeses by others of so many: by
// all of them, or by a majority that takes part itself.
func enough(said map[uint64]answer, others int) bool {
	admitted := 0
	for _, a := range said {
		if a.admitted {
			admitted++
		}
	}
	return len(said) == others || admitted >= others/2+1
}

// A question is, behind its kind, the incarnation of who asks. An answer is, in big-endian order:
//
//	kind, verdict                    a byte each; 0: no, 1: yes, 2: yes, by one that takes part
//	incarnation that was asked for   16 bytes
//	servers                          2 bytes: how many; then of each, by ascending id:
//	    id                           8 bytes
//	    incarnation                  16 bytes
//
// The servers of a yes are all that the one that answers knows, itself included.
type answer struct {
	from     uint64 // not in the message
	yes      bool
	admitted bool // it takes part itself; only with yes
	to       incarnation
	known    map[uint64]incarnation
}

func encodeQuestion(is incarnation) []byte { return append([]byte{kindQuestion}, is[:]...) }

func (a *answer) encode() []byte {
	verdict := byte(0)
	switch {
	case a.admitted:
		verdict = 2
	case a.yes:
		verdict = 1
	}
	b := append([]byte{kindAnswer, verdict}, a.to[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.known)))
	for _, id := range slices.Sorted(maps.Keys(a.known)) {
		b = binary.BigEndian.AppendUint64(b, id)
		is := a.known[id]
		b = append(b, is[:]...)
	}
	return b
}

// parseQuestion reads a question, with its kind. The error wraps errBytes.
func parseQuestion(b []byte) (is incarnation, err error) {
	r := reader{b: b}
	kind := r.number(1)
	copy(is[:], r.bytes(len(is)))
	if r.short || len(r.b) > 0 || kind != uint64(kindQuestion) || is == several {
		return is, fmt.Errorf("%w: a question of %d bytes", errBytes, len(b))
	}
	return is, nil
}

// parseAnswer reads an answer, with its kind. The error wraps errBytes.
func parseAnswer(b []byte) (answer, error) {
	r := reader{b: b}
	kind, verdict := r.number(1), r.number(1)
	a := answer{yes: verdict > 0, admitted: verdict == 2, known: map[uint64]incarnation{}}
	copy(a.to[:], r.bytes(len(a.to)))
	count, last := int(r.number(2)), uint64(0)
	wrong := kind != uint64(kindAnswer) || verdict > 2 || a.to == several || count > knownMax+1
	for ; count > 0 && !r.short && !wrong; count-- {
		id := r.number(8)
		wrong = id <= last
		last = id
		var is incarnation
		copy(is[:], r.bytes(len(is)))
		a.known[id] = is
	}
	if r.short || len(r.b) > 0 || wrong {
		return a, fmt.Errorf("%w: an answer of %d bytes", errBytes, len(b))
	}
	return a, nil
}

// Join returns nil once the server may take part. An admitted one may, at once. Another asks the
// others, each of which is named once, until all of them have taken note of it, or a majority of
// them that takes part. They are the rest of the cluster: at least one, and all servers that may
// vote. They need to have a Register, too, and to give it what they receive. kept is the ledger of
// the register's directory; send is as in Settings.
//
// Errors: ErrKnown, if one of them has known this server with another directory; ErrRegister, if
// the ledger has promised something and the register doesn't know; the context's; the file
// system's.
func (r *Register) Join(
	ctx context.Context, kept *ledger.EntryLog, others []uint64,
	send func(to uint64, urgent bool, parts ...[]byte) bool,
) error {
	me := r.now()
	switch {
	case me.admitted:
		return nil
	case kept.State() != (ledger.State{}) || kept.LastIndex() > 0:
		return fmt.Errorf("%s: %w: the ledger is that of a server that has taken part, and the register is not",
			r.dir, ErrRegister)
	}
	if len(others) == 0 || slices.Contains(others, me.id) {
		panic(fmt.Sprintf("member: server %d asks %v", me.id, others))
	}
	asks, says := time.NewTicker(r.askEvery), time.NewTicker(r.sayEvery)
	defer asks.Stop()
	defer says.Stop()
	question, said := encodeQuestion(me.own), map[uint64]answer{}
	ask := func() {
		for _, id := range others {
			if !said[id].admitted { // one that was not may be by now
				send(id, true, question) // what is dropped is asked again
			}
		}
	}
	silent := func() string {
		var ids []string
		for _, id := range others {
			if !said[id].yes {
				ids = append(ids, strconv.FormatUint(id, 10))
			}
		}
		return strings.Join(ids, ",")
	}
	for ask(); !enough(said, len(others)); {
		select {
		case <-ctx.Done():
			return fmt.Errorf("server %d waits for an answer of servers %s: %w", me.id, silent(), context.Cause(ctx))
		case <-asks.C:
			ask()
		case <-says.C:
			r.log.Info("espera", zap.String("result", "in_progress"), zap.String("servidores", silent()))
		case a := <-r.answers:
			switch {
			case a.to != me.own || !slices.Contains(others, a.from): // of a life or a set of servers before
			case !a.yes:
				return fmt.Errorf("server %d is known to server %d: %w", me.id, a.from, ErrKnown)
			default:
				said[a.from] = a
			}
		}
	}
	return r.admit(said)
}

// admit writes down that the server takes part, and what others have said.
func (r *Register) admit(said map[uint64]answer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(r.page.admit(said))
}

// Receive takes a message from another server, and reports whether it was the register's: else it
// is the member's. It replies by send, if it has something to say. It may wait for the disk. The
// message is valid only during the call.
func (r *Register) Receive(
	from uint64, message []byte, send func(to uint64, urgent bool, parts ...[]byte) bool,
) (handled bool) {
	if len(message) == 0 || message[0] != kindQuestion && message[0] != kindAnswer {
		return false
	}
	if err := r.receive(from, message, send); err != nil {
		r.log.Error("par", zap.String("result", "fail"), zap.Uint64("servidor", from), zap.NamedError("error", err))
	}
	return true
}

func (r *Register) receive(from uint64, message []byte, send func(to uint64, urgent bool, parts ...[]byte) bool) error {
	if message[0] == kindAnswer {
		a, err := parseAnswer(message)
		if err != nil {
			return err
		}
		a.from = from
		select {
		case r.answers <- a:
		default: // Join will ask again
		}
		return nil
	}
	is, err := parseQuestion(message)
	if err != nil {
		return err
	}
	a, err := r.answer(from, is)
	if err != nil {
		return err // it gets no answer, and asks again
	}
	send(from, true, a.encode())
	if !a.yes {
		return fmt.Errorf("server %d is refused: %w", from, ErrKnown)
	}
	return nil
}

// answer takes note of a server that is not known yet, durably.
func (r *Register) answer(from uint64, is incarnation) (*answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == r.page.id || from == 0 {
		return nil, fmt.Errorf("%w: server %d asks server %d", errBytes, from, r.page.id)
	}
	a, next := r.page.answer(from, is)
	if next == r.page {
		return a, nil
	}
	return a, r.write(next)
}
