package member

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"loteria/engine/ledger"
)

// The files of a register. A new one is written beside the old one, and takes its name.
const (
	registerName    = "REGISTER"
	registerNewName = "REGISTER.new"
	registerLock    = "REGISTER.lock"
	registerHead    = "loteria register 1" // the digit is the version
)

const (
	// knownMax is how many other servers a register takes note of: those that have ever been.
	knownMax = 1000
	// registerBytesMax is more than any register has.
	registerBytesMax = 128 << 10
)

// ErrRegister says that a directory's register can't be used, or is not that of its ledger.
var ErrRegister = errors.New("the register can't be used: empty the directory, and join anew under a new id")

// ErrKnown says that another server knows this one with another directory.
var ErrKnown = errors.New("it has taken part before, and its directory is empty or another one: " +
	"start it with the directory that it had, or join anew under a new id")

// incarnation is a server's directory, as the others know it: made with the directory, and never
// again.
type incarnation [16]byte

// several stands for the incarnation of a server of which more than one has been heard of.
var several incarnation

func (i incarnation) String() string {
	if i == several {
		return "several"
	}
	return hex.EncodeToString(i[:])
}

// page is what a register says.
type page struct {
	id       uint64
	own      incarnation
	admitted bool
	known    map[uint64]incarnation // the other servers that have asked, or were heard of
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode is the text of the file.
func (p *page) encode() []byte {
	admitted := "no"
	if p.admitted {
		admitted = "yes"
	}
	b := fmt.Appendf(nil, "%s\nid %d\nincarnation %s\nadmitted %s\n", registerHead, p.id, p.own, admitted)
	for _, id := range slices.Sorted(maps.Keys(p.known)) {
		b = fmt.Appendf(b, "server %d %s\n", id, p.known[id])
	}
	return fmt.Appendf(b, "checksum %08x\n", crc32.Checksum(b, castagnoli))
}

// parsePage reads the text of a register. What is taken has one spelling.
func parsePage(b []byte) (*page, error) {
	p := &page{known: map[uint64]incarnation{}}
	for line := range strings.Lines(string(b)) {
		// A word that is no number or no incarnation makes another text below.
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "id":
			p.id, _ = strconv.ParseUint(words[1], 10, 64)
		case len(words) == 2 && words[0] == "incarnation":
			p.own = parseIncarnation(words[1])
		case len(words) == 2 && words[0] == "admitted":
			p.admitted = words[1] == "yes"
		case len(words) == 3 && words[0] == "server":
			id, _ := strconv.ParseUint(words[1], 10, 64)
			p.known[id] = parseIncarnation(words[2])
		}
	}
	_, self := p.known[p.id]
	_, zero := p.known[0]
	switch {
	case !bytes.HasPrefix(b, []byte(registerHead+"\n")):
		return nil, fmt.Errorf("%w: it doesn't begin with %q", ErrRegister, registerHead)
	case !bytes.Equal(p.encode(), b):
		return nil, fmt.Errorf("%w: it is damaged", ErrRegister)
	case p.id == 0 || p.own == several || self || zero || len(p.known) > knownMax:
		return nil, fmt.Errorf("%w: server %d knows %d others", ErrRegister, p.id, len(p.known))
	}
	return p, nil
}

// parseIncarnation returns several for what is no incarnation.
func parseIncarnation(digits string) (i incarnation) {
	if b, err := hex.DecodeString(digits); err == nil && len(b) == len(i) {
		copy(i[:], b)
	}
	return i
}

// hear returns the page with what was heard of a server: the same page, if that says so already.
func (p *page) hear(id uint64, is incarnation) *page {
	had, known := p.known[id]
	if known && (had == is || had == several) {
		return p
	}
	next := *p
	next.known = maps.Clone(p.known)
	next.known[id] = is
	if known {
		next.known[id] = several
	}
	return &next
}

// answer returns the answer to a server that asks to be taken note of, and the page that has to be
// durable before the answer leaves. Only the first incarnation is told yes.
func (p *page) answer(from uint64, is incarnation) (*answer, *page) {
	if _, known := p.known[from]; !known {
		p = p.hear(from, is)
	}
	if p.known[from] != is {
		return &answer{to: is}, p
	}
	known := maps.Clone(p.known)
	known[p.id] = p.own
	return &answer{yes: true, admitted: p.admitted, to: is, known: known}, p
}

// admit returns the page of a server that takes part, and knows what was said to it.
func (p *page) admit(said map[uint64]answer) *page {
	next := *p
	next.admitted = true
	for _, a := range said {
		for id, is := range a.known {
			if id != p.id {
				next = *next.hear(id, is)
			}
		}
	}
	return &next
}

// Register says who a server's directory is, whether it may take part, and which other servers have
// been. The package comment says what for. Its methods may be called from any goroutine, Join by
// one at a time.
type Register struct {
	fsys ledger.FS
	dir  string
	log  *zap.Logger
	lock io.Closer

	answers  chan answer   // to Join; what it has no room for is asked again
	askEvery time.Duration // the constants; a test has less patience
	sayEvery time.Duration

	mu   sync.Mutex
	page *page // guarded by mu; what is durable. The page itself never changes
}

// OpenRegister opens the register of a directory, or makes both. No other process may have it open,
// until Close. Errors wrap ErrRegister or ledger.ErrLocked, or are the file system's.
func OpenRegister(fsys ledger.FS, dir string, id uint64, log *zap.Logger) (_ *Register, err error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, registerLock))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	r := &Register{
		fsys: fsys, dir: dir, log: log, lock: lock, answers: make(chan answer, answersMax),
		askEvery: askEvery, sayEvery: sayEvery,
	}
	path := filepath.Join(dir, registerName)
	b, err := readFile(fsys, path, registerBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		made := &page{id: id, known: map[uint64]incarnation{}}
		if _, err := rand.Read(made.own[:]); err != nil {
			return nil, err
		}
		return r, r.write(made)
	}
	if err != nil {
		return nil, err
	}
	if r.page, err = parsePage(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.page.id != id {
		return nil, fmt.Errorf("%s: %w: it is server %d's, and this is server %d", path, ErrRegister, r.page.id, id)
	}
	// The process before us may have ended between giving the file its name and syncing that.
	return r, fsys.SyncDir(dir)
}

// Close lets others open the register. The other methods must not be called any more.
func (r *Register) Close() error { return r.lock.Close() }

// Admitted reports whether the server may take part: it may have promised something.
func (r *Register) Admitted() bool { return r.now().admitted }

func (r *Register) now() *page {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.page
}

// write makes a page durable, and the register's. If it fails, the disk may have either page:
// neither of them says less than was promised. The mutex is held, unless nobody else has r yet.
func (r *Register) write(next *page) error {
	if len(next.known) > knownMax {
		return fmt.Errorf("the register has room for %d servers: begin a new draw", knownMax)
	}
	temporary := filepath.Join(r.dir, registerNewName)
	if err := r.fsys.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := r.fsys.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(next.encode(), 0)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := r.fsys.Rename(temporary, filepath.Join(r.dir, registerName)); err != nil {
		return err
	}
	if err := r.fsys.SyncDir(r.dir); err != nil {
		return err
	}
	r.page = next
	return nil
}

// readFile reads a file of at most that many bytes.
func readFile(fsys ledger.FS, path string, bytesMax int64) (_ []byte, err error) {
	file, err := fsys.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > bytesMax {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, ErrRegister, size)
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
