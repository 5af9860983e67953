package member

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

const registerDir = "data"

func openRegister(t testing.TB, fsys ledger.FS) *Register {
	t.Helper()
	r, err := OpenRegister(fsys, registerDir, 1, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fullPage() *page {
	return &page{
		id: 12, own: incarnation{1, 2}, admitted: true,
		known: map[uint64]incarnation{3: {5}, 4: several, 1 << 63: {0xff, 15: 0xff}},
	}
}

// A person can read the file.
func TestPageText(t *testing.T) {
	want := `loteria register 1
id 12
incarnation 01020000000000000000000000000000
admitted yes
server 3 05000000000000000000000000000000
server 4 several
server 9223372036854775808 ff0000000000000000000000000000ff
checksum `
	b := fullPage().encode()
	if got := string(b); !strings.HasPrefix(got, want) || len(got) != len(want)+len("01234567\n") {
		t.Errorf("it reads\n%s", got)
	}
	p, err := parsePage(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := p.encode(); !bytes.Equal(again, b) {
		t.Errorf("it becomes\n%s", again)
	}
	large := fullPage()
	for id := uint64(1) << 63; len(large.known) < knownMax; id++ {
		large.known[id] = incarnation{1}
	}
	if b := large.encode(); len(b) > registerBytesMax {
		t.Errorf("the largest has %d bytes", len(b))
	} else if _, err := parsePage(b); err != nil {
		t.Error(err)
	}
}

// Whatever is not as it was written is refused.
func TestPageIsDamaged(t *testing.T) {
	b := fullPage().encode()
	for i := range b {
		for bit := range 8 {
			damaged := bytes.Clone(b)
			damaged[i] ^= 1 << bit
			if _, err := parsePage(damaged); !errors.Is(err, ErrRegister) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := parsePage(b[:i]); !errors.Is(err, ErrRegister) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	for name, change := range map[string]func(*page){
		"server 0":       func(p *page) { p.id = 0 },
		"no incarnation": func(p *page) { p.own = several },
		"knows itself":   func(p *page) { p.known[p.id] = incarnation{1} },
		"knows 0":        func(p *page) { p.known[0] = incarnation{1} },
	} {
		p := fullPage()
		change(p)
		if _, err := parsePage(p.encode()); !errors.Is(err, ErrRegister) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzPage reads any file. What is taken has one spelling.
func FuzzPage(f *testing.F) {
	f.Add(fullPage().encode())
	f.Add((&page{id: 1, own: incarnation{1}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePage(b)
		if err != nil {
			if !errors.Is(err, ErrRegister) {
				t.Error(err)
			}
			return
		}
		if again := p.encode(); !bytes.Equal(again, b) {
			t.Errorf("%q is taken as %q", b, again)
		}
	})
}

// A register is one server's, of one process, and has to be whole.
func TestOpenRegister(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	r := openRegister(t, fsys)
	if _, err := OpenRegister(fsys, registerDir, 1, zap.NewNop()); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	own := r.page.own
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := OpenRegister(fsys, registerDir, 2, zap.NewNop()); !errors.Is(err, ErrRegister) {
		t.Errorf("opened as another server: %v", err)
	}
	if r = openRegister(t, fsys); r.page.own != own {
		t.Error("it is another one")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, b := range [][]byte{nil, []byte("x"), make([]byte, registerBytesMax+1)} {
		fsys.Install(registerDir+"/"+registerName, b)
		if _, err := OpenRegister(fsys, registerDir, 1, zap.NewNop()); !errors.Is(err, ErrRegister) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	if fsys.OpenFiles() != 0 {
		t.Errorf("%d files are open", fsys.OpenFiles())
	}
}

// A register that is full says no more yeses, but those that it has said.
func TestRegisterIsFull(t *testing.T) {
	r := openRegister(t, ledgertest.NewFS(1))
	full := *r.page
	full.known = map[uint64]incarnation{}
	for id := uint64(2); len(full.known) < knownMax; id++ {
		full.known[id] = incarnation{7}
	}
	if err := r.write(&full); err != nil {
		t.Fatal(err)
	}
	if _, err := r.answer(1<<40, incarnation{7}); err == nil {
		t.Error("one more is known")
	}
	a, err := r.answer(2, incarnation{7})
	if err != nil || !a.yes {
		t.Errorf("answered %+v, %v", a, err)
	}
	if parsed, err := parseAnswer(a.encode()); err != nil || len(parsed.known) != knownMax+1 {
		t.Errorf("of %d servers, %d arrive: %v", knownMax+1, len(parsed.known), err)
	}
}

// registerLives ends one register's process or machine again and again, and knows what it must
// remember.
type registerLives struct {
	t        *testing.T
	fsys     *ledgertest.FS
	name     string
	own      incarnation // the first that was known
	admitted bool
	yes      map[uint64]incarnation // to whom
}

// live opens the register, looks whether it has forgotten something, and promises more. It returns
// at the first failure that was arranged.
func (l *registerLives) live() {
	l.t.Helper()
	r, err := OpenRegister(l.fsys, registerDir, 1, zap.NewNop())
	if err != nil {
		if l.fsys.Broken() == 0 {
			l.t.Fatalf("%s: %v", l.name, err)
		}
		return
	}
	if l.own == several {
		l.own = r.page.own
	}
	if r.page.own != l.own || l.admitted && !r.Admitted() {
		l.t.Fatalf("%s: it was %s, admitted %v, and is %s, admitted %v",
			l.name, l.own, l.admitted, r.page.own, r.Admitted())
	}
	for id, is := range l.yes {
		if r.page.known[id] != is {
			l.t.Fatalf("%s: server %d was %s, and is %s", l.name, id, is, r.page.known[id])
		}
	}
	// Another incarnation asks in each life, and the one that is known: one of them at most may be
	// told yes. A failure that doesn't end the process is followed by another try.
	for id := uint64(2); id <= 3; id++ {
		other := incarnation{byte(id), byte(l.fsys.Count(ledgertest.Create)), 1}
		for _, is := range []incarnation{other, r.page.known[id], other} {
			if is == several {
				continue // none was known, or it is refused for good
			}
			a, err := r.answer(id, is)
			if err != nil && l.fsys.Broken() == 0 {
				l.t.Fatalf("%s: %v", l.name, err)
			}
			if err != nil || !a.yes {
				continue
			}
			if was, told := l.yes[id]; told && was != is {
				l.t.Fatalf("%s: server %d is told yes as %s and as %s", l.name, id, was, is)
			}
			l.yes[id] = is
		}
	}
	if err := r.admit(map[uint64]answer{2: {known: map[uint64]incarnation{4: {4}}}}); err == nil {
		l.admitted = true
		l.yes[4] = incarnation{4}
	} else if l.fsys.Broken() == 0 {
		l.t.Fatalf("%s: %v", l.name, err)
	}
}

// Wherever a process or machine ends, what was promised stays.
func TestRegisterCrashes(t *testing.T) {
	ends := map[string]func(*ledgertest.FS){"kill": (*ledgertest.FS).Kill, "crash": (*ledgertest.FS).Crash}
	broken := 0
	for seed := range uint64(20) {
		for first, end := range ends {
			for _, dead := range []bool{false, true} {
				for n, over := 1, false; !over; n++ {
					l := &registerLives{t: t, fsys: ledgertest.NewFS(seed), yes: map[uint64]incarnation{}}
					l.name = fmt.Sprintf("seed %d, operation %d, dead %v, %s", seed, n, dead, first)
					l.fsys.Break(ledgertest.Fault{N: n, Dead: dead})
					l.live()
					if over = l.fsys.Broken() == 0; !over {
						broken++
					}
					end(l.fsys)
					// The second life finds what the first one left only in the system's memory.
					l.fsys.Break(ledgertest.Fault{N: 1 + n%7, Dead: dead})
					l.live()
					l.fsys.Crash()
					l.live()
					l.fsys.Crash()
					l.live()
					if !l.admitted || len(l.yes) != 3 {
						t.Fatalf("%s: it never works", l.name)
					}
				}
			}
		}
	}
	if broken < 20*2*2*5 {
		t.Errorf("only %d operations were broken", broken)
	}
}
