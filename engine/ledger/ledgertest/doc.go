/*
Package ledgertest breaks ledgers on purpose. It has a file system in memory that forgets, fails and
fills up, a log in memory, and the checks that every log must pass, wherever it stores its records.

# The file system

[FS] is a ledger.FS. It keeps what a process sees and, separately, what is durable:

	fsys := ledgertest.NewFS(seed)
	o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
	l, err := ledger.Open("data", o, visit)
	...
	// The third fdatasync from now on fails.
	fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 3})
	...
	fsys.Kill()   // the process ends: files and locks are closed, everything written is kept
	fsys.Crash()  // the machine ends: of what was not synced, a random part is kept

After a crash:

  - A name, of a file or a directory, that was created, removed or given since its directory was
    synced is as before or as after. A lost directory takes along all that was in it.
  - A file that wasn't synced since its size changed has the old size or the new one. SyncData makes
    a size durable only if the file grew.
  - A sector of 512 bytes that was written or cut off since the file was synced has its old content
    or the new one. Sectors are never torn, and neighbours of a written sector stay as they are.

An operation that fails has its whole effect, a part of it, or none. A write leaves a random number
of its first sectors. A sync makes a random part durable and forgets that the rest is dirty, as
Linux does with its page cache: the process still reads it, a second sync succeeds, and a crash
loses it nevertheless.

All chance comes from the seed: the same seed and the same operations give the same results. An FS
belongs to one goroutine.

# The checks

[Conform] runs the checks that every [Log] has to pass, against a function that opens the log:

	ledgertest.Conform(t, func(t testing.TB) ledgertest.Open {
		return ledgertest.In(t.TempDir(), ledger.Options{})
	})

[Check] runs those of them that need only one goroutine, and then makes the log fail and crash.
[Local] is the ledger of package ledger on an FS. For a log that is stored elsewhere, write another
[Store].

[Memory] is another log, for tests of a committer. It needs no disk, and fails on demand with a
given error:

	m := ledgertest.NewMemory(seed)
	log, err := m.Open(visit)
	...
	m.Fail(3, errLost)  // the third Commit or Seal from now on fails, and so do all that follow
	...
	m.Kill()            // the next Open finds what was committed
*/
package ledgertest
