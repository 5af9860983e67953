package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/mesh"
)

func TestEnough(t *testing.T) {
	for others, majority := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4, 8: 5} {
		said := map[uint64]answer{}
		for n := 1; n <= others; n++ {
			said[uint64(n)] = answer{yes: true}
			if enough(said, others) != (n == others) {
				t.Errorf("%d of %d new servers are enough, or not", n, others)
			}
		}
		clear(said)
		for n := 1; n <= others; n++ {
			said[uint64(n)] = answer{yes: true, admitted: true}
			if enough(said, others) != (n >= majority) {
				t.Errorf("%d of %d servers are enough, or not", n, others)
			}
		}
	}
}

// Questions and answers have one spelling, and nothing is kept of what was read.
func TestQuestionsAndAnswers(t *testing.T) {
	for _, a := range []answer{
		{to: incarnation{1}, known: map[uint64]incarnation{}},
		{to: incarnation{1}, yes: true, known: map[uint64]incarnation{3: {4}}},
		{to: incarnation{1}, yes: true, admitted: true, known: map[uint64]incarnation{1: {2}, 9: several, 1 << 63: {3}}},
	} {
		b := a.encode()
		got, err := parseAnswer(b)
		clear(b)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v becomes %+v, %v", a, got, err)
		}
	}
	if is, err := parseQuestion(encodeQuestion(incarnation{5})); err != nil || is != (incarnation{5}) {
		t.Errorf("asked as %s, %v", is, err)
	}
}

// FuzzAdmission parses what anybody may send to a register.
func FuzzAdmission(f *testing.F) {
	f.Add(encodeQuestion(incarnation{1}))
	f.Add((&answer{to: incarnation{1}}).encode())
	f.Add((&answer{to: incarnation{1}, yes: true, known: map[uint64]incarnation{1: {2}, 3: {4}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		is, errQuestion := parseQuestion(b)
		if errQuestion == nil && !bytes.Equal(encodeQuestion(is), b) {
			t.Errorf("%x is taken as a question of %s", b, is)
		}
		a, errAnswer := parseAnswer(b)
		if errAnswer == nil && !bytes.Equal(a.encode(), b) {
			t.Errorf("%x is taken as %+v", b, a)
		}
		_, errMessage := parseMessage(b)
		taken := 0
		for _, err := range []error{errQuestion, errAnswer, errMessage} {
			if err == nil {
				taken++
			} else if !errors.Is(err, errBytes) {
				t.Error(err)
			}
		}
		if taken > 1 {
			t.Errorf("%x has several meanings", b)
		}
	})
}

// state is one of a cluster in which server 1 was admitted, as far as it counts for whether that one
// is admitted once more behind the loss of its directory.
type state struct {
	lost   bool // server 1's directory: from then on it asks with the second incarnation
	losses int  // of all directories
	others [8]other
}

// other is one of the other servers.
type other struct {
	there    bool
	admitted bool
	fresh    bool        // it is not admitted yet; without both, it has lost its directory
	known    bool        // whether it knows server 1
	knows    incarnation // as which one
	yes      bool        // it has told the second incarnation yes,
	yesOfOne bool        // as one that was admitted
}

var first, second = incarnation{1}, incarnation{2}

// page is what the server's register says.
func (o other) page(id uint64) *page {
	p := &page{id: id, own: incarnation{9}, admitted: o.admitted, known: map[uint64]incarnation{}}
	if o.known {
		p.known[1] = o.knows
	}
	return p
}

// with returns the server with what a register says of server 1.
func (o other) with(p *page) other {
	o.knows, o.known = p.known[1]
	return o
}

// rank is another one for each value.
func (o other) rank() int {
	rank := int(o.knows[0])
	for _, is := range []bool{o.there, o.admitted, o.fresh, o.known, o.yes, o.yesOfOne} {
		rank *= 2
		if is {
			rank++
		}
	}
	return rank
}

// explorer goes through all states.
type explorer struct {
	n      int
	enough func(said map[uint64]answer, others int) bool
	deaf   bool // new servers learn nothing from the answers

	seen map[state]bool
	todo []state
	bad  bool // server 1 was admitted twice
}

func (e *explorer) add(s state) {
	// States are the same that differ only in which server is which.
	slices.SortFunc(s.others[:], func(a, b other) int { return a.rank() - b.rank() })
	if !e.seen[s] {
		e.seen[s] = true
		e.todo = append(e.todo, s)
	}
	said := map[uint64]answer{}
	for i, o := range s.others {
		if o.yes {
			said[uint64(i)] = answer{yes: true, admitted: o.yesOfOne}
		}
	}
	e.bad = e.bad || e.enough(said, e.n-1)
}

// run reports whether server 1 can be admitted twice.
func (e *explorer) run() bool {
	e.seen = map[state]bool{}
	// Any number of the others may have been asked first, and any number may not take part yet.
	for bits := range 1 << (2 * (e.n - 1)) {
		var s state
		said := map[uint64]answer{}
		for i := range e.n - 1 {
			knows, admitted := bits>>(2*i)&1 == 1, bits>>(2*i+1)&1 == 1
			s.others[i] = other{there: true, admitted: admitted, fresh: !admitted, known: knows}
			if knows {
				s.others[i].knows = first
				said[uint64(i)] = answer{yes: true, admitted: admitted}
			}
		}
		if e.enough(said, e.n-1) {
			e.add(s)
		}
	}
	lossesMax := e.n - (e.n/2 + 1)
	for len(e.todo) > 0 && !e.bad {
		s := e.todo[len(e.todo)-1]
		e.todo = e.todo[:len(e.todo)-1]
		if s.losses < lossesMax && !s.lost {
			next := s
			next.lost = true
			next.losses++
			e.add(next)
		}
		for i, o := range s.others {
			if !o.there {
				continue
			}
			if s.losses < lossesMax {
				next := s
				next.losses++
				next.others[i] = other{there: true, yes: o.yes, yesOfOne: o.yesOfOne}
				e.add(next)
			}
			if s.lost {
				next := s
				a, p := o.page(2).answer(1, second)
				o = o.with(p)
				if a.yes {
					o.yes, o.yesOfOne = true, a.admitted
				}
				next.others[i] = o
				e.add(next)
			}
			e.joins(s, i, other{})
			if o.fresh {
				e.joins(s, i, o)
			}
		}
	}
	return e.bad
}

// joins admits a server at the place i: the one there, or another that replaces it. Any of the rest
// may have told it yes.
func (e *explorer) joins(s state, i int, joining other) {
	one := &page{id: 1, own: first, admitted: true}
	if s.lost {
		one.own, one.admitted = second, false
	}
	a, _ := (&page{id: 1, own: one.own, admitted: one.admitted, known: map[uint64]incarnation{}}).answer(20, incarnation{3})
	said := []answer{*a}
	for at, o := range s.others {
		if o.there && at != i {
			a, _ := o.page(2).answer(20, incarnation{3})
			said = append(said, *a)
		}
	}
	for chosen := range 1 << len(said) {
		some := map[uint64]answer{}
		for n, a := range said {
			if chosen>>n&1 == 1 {
				some[uint64(n)] = a
			}
		}
		if !e.enough(some, e.n-1) {
			continue
		}
		if e.deaf {
			clear(some)
		}
		next := s
		next.others[i] = other{there: true, admitted: true, yes: s.others[i].yes, yesOfOne: s.others[i].yesOfOne}.
			with(joining.page(20).admit(some))
		e.add(next)
	}
}

// No server is admitted twice, whatever is lost, in whichever order servers answer, and whoever is
// replaced by a new one, as long as no more directories are lost than a cluster may lose. Weaker
// rules fail.
func TestNobodyIsAdmittedTwice(t *testing.T) {
	weaker := map[string]struct {
		from int // servers
		explorer
	}{
		"new servers don't learn": {3, explorer{enough: enough, deaf: true}},
		"a majority less one": {3, explorer{enough: func(said map[uint64]answer, others int) bool {
			said = maps.Clone(said)
			said[99] = answer{yes: true, admitted: true}
			return enough(said, others)
		}}},
		"servers that don't take part count": {5, explorer{enough: func(said map[uint64]answer, others int) bool {
			return len(said) >= others/2+1
		}}},
	}
	for n := 3; n <= 6; n++ {
		e := &explorer{n: n, enough: enough}
		if e.run() {
			t.Errorf("of %d servers, one is admitted twice", n)
		}
		t.Logf("%d servers: %d states", n, len(e.seen))
		for name, e := range weaker {
			if e.n = n; n >= e.from && !e.run() {
				t.Errorf("of %d servers: %s, and none is admitted twice", n, name)
			}
		}
	}
}

// joining is three servers that want to take part, on real sockets and disks.
type joining struct {
	t     *testing.T
	addrs map[uint64]string
	dirs  [4]string // by id
	seats [4]*seat
}

// seat is a server of them that has come.
type seat struct {
	register *Register
	kept     *ledger.EntryLog
	mesh     *mesh.Mesh
	logs     *observer.ObservedLogs
	joined   chan error // holds one
	leave    context.CancelFunc
}

func newJoining(t *testing.T) *joining {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // behind the others
	j := &joining{t: t, addrs: map[uint64]string{}}
	pid := os.Getpid() // as newCluster
	for id := uint64(1); id <= 3; id++ {
		j.addrs[id] = fmt.Sprintf("127.%d.%d.%d:4119", 64+pid>>8&63, pid&255, id)
		j.dirs[id] = filepath.Join(t.TempDir(), "data")
	}
	t.Cleanup(func() {
		for id := range j.seats {
			j.goes(uint64(id))
		}
	})
	return j
}

func (j *joining) comes(id uint64) {
	j.t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	s := &seat{logs: logs, joined: make(chan error, 1)}
	var err error
	if s.register, err = OpenRegister(ledger.Disk{}, j.dirs[id], id, zap.New(core)); err != nil {
		j.t.Fatal(err)
	}
	s.register.askEvery, s.register.sayEvery = 5*time.Millisecond, 20*time.Millisecond
	if s.kept, err = openKept(j.dirs[id], nil, s.register); err != nil {
		j.t.Fatal(err)
	}
	listening := make(chan struct{})
	s.mesh, err = mesh.Listen(mesh.Settings{ID: id, Servers: j.addrs, Addr: j.addrs[id], Mesh: [16]byte{9}}, zap.NewNop(),
		func(from uint64, message []byte) {
			<-listening
			if !s.register.Receive(from, message, s.mesh.Send) {
				j.t.Errorf("server %d is sent %x", id, message)
			}
		})
	if err != nil {
		j.t.Fatal(err)
	}
	close(listening)
	others := slices.DeleteFunc([]uint64{1, 2, 3}, func(other uint64) bool { return other == id })
	var ctx context.Context
	ctx, s.leave = context.WithCancel(context.Background())
	go func() { s.joined <- s.register.Join(ctx, s.kept, others, s.mesh.Send) }()
	j.seats[id] = s
}

// openKept opens the ledger of a register's directory.
func openKept(dir string, fsys ledger.FS, r *Register) (*ledger.EntryLog, error) {
	return ledger.OpenEntryLog(dir, ledger.EntryOptions{
		FS: fsys, SegmentBytes: ledger.SegmentBytesMin, ID: [16]byte{9}, Create: !r.Admitted(),
		First: ledger.AppendRecord(nil, ledger.Opened, 0, 5, []byte("first")),
	}, nil)
}

func (j *joining) goes(id uint64) {
	j.t.Helper()
	s := j.seats[id]
	if s == nil {
		return
	}
	j.seats[id] = nil
	s.leave()
	if err := errors.Join(s.mesh.Close(), s.kept.Close(), s.register.Close()); err != nil {
		j.t.Error(err)
	}
}

func (j *joining) joins(id uint64) error {
	j.t.Helper()
	select {
	case err := <-j.seats[id].joined:
		return err
	case <-time.After(patience):
		j.t.Fatalf("server %d gets no answer", id)
		return nil
	}
}

// All servers of a new cluster begin together. An admitted one that starts again asks nobody.
func TestJoin(t *testing.T) {
	j := newJoining(t)
	for id := uint64(1); id <= 3; id++ {
		j.comes(id)
	}
	for id := uint64(1); id <= 3; id++ {
		if err := j.joins(id); err != nil || !j.seats[id].register.Admitted() {
			t.Errorf("server %d: %v", id, err)
		}
	}
	for id := uint64(1); id <= 3; id++ {
		j.goes(id)
	}
	j.comes(2)
	if err := j.joins(2); err != nil {
		t.Error(err)
	}
}

// A server that has lost its directory is refused, by one other alone, and by others that have
// started again since.
func TestJoinWithoutDirectory(t *testing.T) {
	j := newJoining(t)
	for id := uint64(1); id <= 3; id++ {
		j.comes(id)
	}
	for id := uint64(1); id <= 3; id++ {
		if err := j.joins(id); err != nil {
			t.Fatal(err)
		}
	}
	j.goes(2)
	j.goes(3)
	if err := os.RemoveAll(j.dirs[2]); err != nil {
		t.Fatal(err)
	}
	j.comes(2)
	if err := j.joins(2); !errors.Is(err, ErrKnown) || j.seats[2].register.Admitted() {
		t.Errorf("beside one of two others: %v", err)
	}
	j.goes(1)
	j.goes(2)
	j.comes(2)
	j.comes(3)
	if err := j.joins(2); !errors.Is(err, ErrKnown) || j.seats[2].register.Admitted() {
		t.Errorf("again, beside the other one: %v", err)
	}
	if err := j.joins(3); err != nil {
		t.Errorf("one that has its directory: %v", err)
	}
}

// Servers wait for one that is slow to come, and say so. One that is told to end doesn't wait, and
// goes on later.
func TestJoinSlowly(t *testing.T) {
	j := newJoining(t)
	j.comes(1)
	j.comes(2)
	waits := func(id uint64, servers string) {
		t.Helper()
		await(t, fmt.Sprintf("server %d to wait for %s", id, servers), func() bool {
			return j.seats[id].logs.FilterMessage("espera").FilterField(zap.String("servidores", servers)).Len() > 0
		})
		if j.seats[id].register.Admitted() {
			t.Errorf("server %d doesn't wait for %s", id, servers)
		}
	}
	waits(1, "3")
	waits(2, "3")
	own := j.seats[1].register.now().own
	j.seats[1].leave()
	if err := j.joins(1); !errors.Is(err, context.Canceled) {
		t.Errorf("told to end: %v", err)
	}
	j.goes(1)
	j.comes(3)
	waits(3, "1")
	j.comes(1)
	for id := uint64(1); id <= 3; id++ {
		if err := j.joins(id); err != nil {
			t.Errorf("server %d: %v", id, err)
		}
	}
	if j.seats[1].register.now().own != own {
		t.Error("server 1 asks as another one")
	}
}

// A register and a ledger that aren't of the same life don't go together.
func TestRegisterAndLedger(t *testing.T) {
	never := func(uint64, bool, ...[]byte) bool {
		t.Error("it asks")
		return false
	}
	fsys := ledgertest.NewFS(1)
	r := openRegister(t, fsys)
	if err := r.admit(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := openKept(registerDir, fsys, r); !errors.Is(err, ledger.ErrNone) {
		t.Errorf("the ledger is gone: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, promise := range map[string]func(*ledger.EntryLog) error{
		"a term": func(l *ledger.EntryLog) error { return l.Save(ledger.State{Term: 1}, nil) },
		"an entry": func(l *ledger.EntryLog) error {
			return l.Save(ledger.State{Term: 1}, []ledger.Entry{{Index: 1, Term: 1}})
		},
	} {
		fsys := ledgertest.NewFS(1)
		r := openRegister(t, fsys)
		kept, err := openKept(registerDir, fsys, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := promise(kept); err != nil {
			t.Fatal(err)
		}
		if err := r.Join(ended, kept, []uint64{2, 3}, never); !errors.Is(err, ErrRegister) {
			t.Errorf("the register is gone, the ledger has promised %s: %v", name, err)
		}
	}
}

// What is no message of a register's is left to others, and what is a wrong one changes nothing.
func TestRegisterReceives(t *testing.T) {
	r := openRegister(t, ledgertest.NewFS(1))
	core, logs := observer.New(zapcore.InfoLevel)
	r.log = zap.New(core)
	before := r.now()
	never := func(uint64, bool, ...[]byte) bool {
		t.Error("it answers")
		return false
	}
	for _, b := range [][]byte{nil, []byte("HELLO"), appendMessage(nil, full())} {
		if r.Receive(2, b, never) {
			t.Errorf("%x is taken", b)
		}
	}
	wrong := []struct {
		from uint64
		b    []byte
	}{
		{2, []byte{kindQuestion}},
		{2, append(encodeQuestion(incarnation{1}), 0)},
		{2, encodeQuestion(several)},
		{1, encodeQuestion(incarnation{1})},
		{0, encodeQuestion(incarnation{1})},
		{2, []byte{kindAnswer}},
		{2, append((&answer{to: incarnation{1}}).encode(), 0)},
	}
	for _, w := range wrong {
		if !r.Receive(w.from, w.b, never) {
			t.Errorf("%x is left to others", w.b)
		}
	}
	if r.now() != before || len(r.answers) > 0 || logs.Len() != len(wrong) {
		t.Errorf("%d of %d wrong messages are logged, %d answers wait", logs.Len(), len(wrong), len(r.answers))
	}
	for range 2 * answersMax { // nobody reads them
		r.Receive(2, (&answer{to: incarnation{1}}).encode(), never)
	}
}
