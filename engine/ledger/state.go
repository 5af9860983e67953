package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The file of what a server has promised beside its log. "The state" in the package comment draws
// it.
const (
	stateName      = "STATE"
	stateMagic     = "LOTSTATE"
	stateSlotBytes = 84
	stateSlots     = 2
	stateBytes     = stateSlots * BlockBytes // each slot begins a block of its own
)

// State is what a server has promised beside the entries of its log, and how far it knows them to
// be committed. The zero State is a new server's.
type State struct {
	Term   uint64 // the highest that the server has seen; 0 before the first
	Vote   uint64 // the server that it voted for in this term; 0 for none
	Commit uint64 // index of an entry that is committed, with all before it; 0 for none
}

// stateSlot is one of the two places where the state is written.
type stateSlot struct {
	id      ledgerID
	counter uint64 // the slot with the higher one is the newer; from 1
	State          // Commit is at most last
	last    uint64 // entries through this one were durable before the slot was written
	// The chain values behind the entries commit and last prove the log up to there.
	commitChain, lastChain uint32
	cutting                bool // what follows the entry last is being cut off: it counts no more
	// The entries that follow the entry last share one sync. Otherwise each of them has its own.
	together bool
}

// The bits of a slot's flags. One at most is set.
const (
	flagCutting  = 1
	flagTogether = 2
)

// promisesNothing tells the state of a ledger that is being made, or was made and not used yet.
func (s *stateSlot) promisesNothing() bool {
	return s.State == State{} && s.last == 0 && !s.cutting && !s.together
}

func (s *stateSlot) encode() []byte {
	b := make([]byte, stateSlotBytes)
	copy(b, stateMagic)
	binary.LittleEndian.PutUint32(b[8:], entryVersion)
	copy(b[12:28], s.id[:])
	binary.LittleEndian.PutUint64(b[28:], s.counter)
	binary.LittleEndian.PutUint64(b[36:], s.Term)
	binary.LittleEndian.PutUint64(b[44:], s.Vote)
	binary.LittleEndian.PutUint64(b[52:], s.Commit)
	binary.LittleEndian.PutUint64(b[60:], s.last)
	binary.LittleEndian.PutUint32(b[68:], s.commitChain)
	binary.LittleEndian.PutUint32(b[72:], s.lastChain)
	switch {
	case s.cutting:
		binary.LittleEndian.PutUint32(b[76:], flagCutting)
	case s.together:
		binary.LittleEndian.PutUint32(b[76:], flagTogether)
	}
	binary.LittleEndian.PutUint32(b[80:], crc32.Checksum(b[:80], castagnoli))
	return b
}

// decodeStateSlot reports the version, and false if the bytes are not an intact slot of any: all
// versions keep the magic, the version and the checksum where they are. It decodes its own only.
func decodeStateSlot(b []byte) (s stateSlot, version uint32, intact bool) {
	if len(b) < stateSlotBytes || string(b[:len(stateMagic)]) != stateMagic ||
		binary.LittleEndian.Uint32(b[80:]) != crc32.Checksum(b[:80], castagnoli) {
		return s, 0, false
	}
	if version = binary.LittleEndian.Uint32(b[8:]); version != entryVersion {
		return s, version, true
	}
	flags := binary.LittleEndian.Uint32(b[76:])
	s = stateSlot{
		id:      ledgerID(b[12:28]),
		counter: binary.LittleEndian.Uint64(b[28:]),
		State: State{
			Term:   binary.LittleEndian.Uint64(b[36:]),
			Vote:   binary.LittleEndian.Uint64(b[44:]),
			Commit: binary.LittleEndian.Uint64(b[52:]),
		},
		last:        binary.LittleEndian.Uint64(b[60:]),
		commitChain: binary.LittleEndian.Uint32(b[68:]),
		lastChain:   binary.LittleEndian.Uint32(b[72:]),
		cutting:     flags == flagCutting,
		together:    flags == flagTogether,
	}
	return s, version, flags <= flagTogether && s.Commit <= s.last && (s.last == 0 || s.Term > 0)
}

// foundState is what a directory holds of a state.
type foundState struct {
	slot   stateSlot // the newest intact one
	intact bool      // whether there is one
	exists bool      // whether there is a file
	blank  bool      // whether nothing was ever written to it: to make it was interrupted
}

// readState looks for the state. It changes nothing, and may run beside the server whose it is:
// only one slot at a time is being written.
func readState(fsys FS, dir string) (found foundState, err error) {
	path := filepath.Join(dir, stateName)
	file, err := fsys.OpenFile(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found, nil
	case err != nil:
		return found, fmt.Errorf("ledger: %w", err)
	}
	defer func() { joinInto(&err, file.Close()) }()
	b := make([]byte, stateBytes)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return found, fmt.Errorf("ledger: %s: %w", path, err)
	}
	found.exists, found.blank = true, allZero(b[:n])
	for i := range stateSlots {
		slot, version, intact := decodeStateSlot(b[min(i*BlockBytes, n):n])
		switch {
		case intact && version != entryVersion:
			return found, versionError(path, version)
		case intact && (!found.intact || slot.counter > found.slot.counter):
			found.slot, found.intact = slot, true
		}
	}
	return found, nil
}

// stateFile writes the state. Both slots hold the term and the vote that were promised last, and a
// length of the log that is still true: so whichever of them the disk loses, the other will do. The
// second is written only when the first is durable, so a crash takes one at most. One goroutine
// uses it.
type stateFile struct {
	file File
	slot stateSlot // what was written last, in the first slot
	base stateSlot // what was promised last, durably; the second slot holds it

	together bool // what the first slot says on the disk, as far as that is known
}

// openState opens the state's file, or makes it if it isn't there. Nothing is written yet.
func openState(fsys FS, dir string, exists bool) (*stateFile, error) {
	flag := os.O_RDWR
	if !exists {
		flag |= os.O_CREATE | os.O_EXCL
	}
	file, err := fsys.OpenFile(filepath.Join(dir, stateName), flag)
	if err != nil {
		return nil, err
	}
	return &stateFile{file: file}, nil
}

// promise makes a state durable in both slots, one after the other. A crash in between leaves the
// old state or the new one.
func (s *stateFile) promise(next stateSlot) error {
	next.counter = s.slot.counter + 1
	for i := range stateSlots {
		if _, err := s.file.WriteAt(next.encode(), int64(i)*BlockBytes); err != nil {
			return err
		}
		if err := s.file.SyncData(); err != nil {
			return err
		}
	}
	s.slot, s.base, s.together = next, next, next.together
	return nil
}

// announce makes durable, in the first slot, how far the log goes, and whether what is written
// behind it shares one sync. The second slot never says that it does. So who has lost the first one
// refuses what a crash has torn, rather than cut off what was promised.
func (s *stateFile) announce(next stateSlot) error {
	if err := s.hint(next); err != nil {
		return err
	}
	if err := s.file.SyncData(); err != nil {
		return err
	}
	s.together = next.together
	return nil
}

// hint writes a state that differs only in how far the log goes and is committed, in the first
// slot, and doesn't sync: who finds the older one knows less, and nothing that is wrong.
func (s *stateFile) hint(next stateSlot) error {
	next.counter = s.slot.counter + 1
	if _, err := s.file.WriteAt(next.encode(), 0); err != nil {
		return err
	}
	s.slot = next
	return nil
}
