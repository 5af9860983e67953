//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"loteria/engine/history"
)

// The size of a draw. Its bets take more than a ledger's first reservation, for which the disk has
// room, and less than two, for which it doesn't.
const (
	diskFullBets     = 1_600_000 // of 46 bytes and more; ledger.ReserveBytesDefault is 64 MiB
	diskFullAgencies = 2
)

// smallDisk mounts an empty file system of mb MiB. Only root may do that.
func smallDisk(t *testing.T, mb int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mb))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("only root may mount a small file system: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Without room for a segment the server doesn't start. If the disk fills up in a draw, the server
// acknowledges nothing more and ends with 4, and the agencies keep trying. When there is room
// again, the next server goes on where the ledger ends, and the draw is right.
func TestDiskFull(t *testing.T) {
	t.Parallel() // it mostly waits
	disk := smallDisk(t, 10)
	bets := t.TempDir()
	_, _, err := datasetCommand(t, "--out", bets, "--force",
		"--agencies", strconv.Itoa(diskFullAgencies), "--bets", strconv.Itoa(diskFullBets))
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dataDir := filepath.Join(disk, "data")
	run := func(args []string, variables ...string) *process {
		environment := append([]string{
			"PATH=" + os.Getenv("PATH"), "LOG_LEVEL=warn",
			"SERVER_ADDR=" + addr, "AGENCY_SERVER=" + addr, "SERVER_DATA_DIR=" + dataDir,
			"SERVER_AGENCIES=" + strconv.Itoa(diskFullAgencies), "AGENCY_BETS=" + bets,
		}, variables...)
		p, err := startProcess(t.TempDir(), environment, "loteria", args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		return p
	}
	ends := func(p *process, want int, says string) {
		t.Helper()
		code, err := p.wait()
		said := p.stdout.String() + p.stderr.String()
		if err != nil || code != want || !strings.Contains(said, says) {
			t.Fatalf("it ends with %d, %v, want %d and %q:\n%.2000s", code, err, want, says, said)
		}
	}
	resize := func(mb int) {
		t.Helper()
		size := fmt.Sprintf("size=%dm", mb)
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, size); err != nil {
			t.Fatal(err)
		}
	}
	server := []string{"server"}
	ledgerDir := history.Dir(dataDir)
	const makeRoom = ": make room and start again: what was acknowledged is kept\n"

	ends(run(server), exitStorage,
		syscall.ENOSPC.Error()+": needs 64 MiB free in "+ledgerDir+", has 10 MiB"+makeRoom)

	resize(65)
	first := run(server)
	var agencies []*process
	for id := 1; id <= diskFullAgencies; id++ {
		agencies = append(agencies, run([]string{"agency"}, "AGENCY_ID="+strconv.Itoa(id)))
	}
	ends(first, exitStorage,
		syscall.ENOSPC.Error()+": needs 64 MiB free in "+ledgerDir+", has 1 MiB"+makeRoom)
	before, err := history.Verify(history.In(dataDir))
	if err != nil || before.Bets == 0 || before.Drawn {
		t.Fatalf("after the disk was full: %+v, %v", before, err)
	}

	resize(400)
	second := run(server)
	for _, p := range agencies {
		ends(p, exitDone, "")
	}
	ends(second, exitDone, "")
	after, err := history.Verify(history.In(dataDir))
	if err != nil || after.Bets != diskFullBets || !after.Drawn {
		t.Fatalf("after the draw: %+v, %v", after, err)
	}
	if err := streamsHold(filepath.Join(dataDir, history.BetsFile), bets); err != nil {
		t.Error(err)
	}
}

// streamsHold checks that an export has each agency's bets once, in their order. It keeps none in
// memory.
func streamsHold(betsCSV, bets string) (err error) {
	export, err := os.Open(betsCSV)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, export.Close()) }()
	rows := map[string]*bufio.Reader{}
	for id := 1; id <= diskFullAgencies; id++ {
		file, errOpen := os.Open(filepath.Join(bets, fmt.Sprintf("agency-%d.csv", id)))
		if errOpen != nil {
			return errOpen
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		rows[strconv.Itoa(id)] = bufio.NewReader(file)
	}
	lines := bufio.NewScanner(export)
	for n := 1; lines.Scan(); n++ {
		id, bet, _ := strings.Cut(lines.Text(), ",")
		if rows[id] == nil {
			return fmt.Errorf("%s:%d: agency %q", betsCSV, n, id)
		}
		want, errRead := rows[id].ReadString('\n')
		if errRead != nil || strings.TrimRight(want, "\r\n") != strings.TrimRight(bet, "\r") {
			return fmt.Errorf("%s:%d: %q of agency %s, want %q (%v)",
				betsCSV, n, bet, id, want, errRead)
		}
	}
	for id, r := range rows {
		if _, errRead := r.ReadByte(); errRead != io.EOF {
			return fmt.Errorf("%s lacks bets of agency %s (%v)", betsCSV, id, errRead)
		}
	}
	return lines.Err()
}

// A run of `loteria certs` for which the disk has no room ends with 4 and leaves whole files only.
// When there is room again, the next run goes on with them.
func TestDiskFullOfCerts(t *testing.T) {
	disk := smallDisk(t, 1)
	filler := filepath.Join(disk, "filler")
	const room = 5 // files of a page each
	content := make([]byte, 1<<20-room*os.Getpagesize())
	if err := os.WriteFile(filler, content, 0o600); err != nil {
		t.Fatal(err)
	}
	options := certsIn(filepath.Join(disk, "certs"))
	err := runCerts(t.Context(), options, certsNow, io.Discard, io.Discard)
	if !errors.Is(err, errCertsWrite) || !errors.Is(err, syscall.ENOSPC) || exitCode(err) != exitStorage {
		t.Errorf("without room: %v", err)
	}
	before := folderContent(t, options.out)
	if len(before) == 0 || len(before) > room {
		t.Errorf("%d files", len(before))
	}
	for name := range before {
		if strings.HasSuffix(name, "-key.pem") {
			_, err = readKey(options.out, name)
		} else {
			_, err = readCertificate(options.out, name)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustMakeCerts(t, options, certsNow)
	after := folderContent(t, options.out)
	if len(after) != 2*(1+3+5) {
		t.Errorf("%d files in the end", len(after))
	}
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s has changed", name)
		}
	}
}
