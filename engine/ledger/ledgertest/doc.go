/*
Package ledgertest breaks ledgers on purpose. It holds a file system in memory that forgets, fails
and fills up, a log in memory, and the checks that every log must pass, whatever it stores its
records on.

# The file system

[FS] is a ledger.FS. It remembers what a process sees and, apart from that, what is durable:

	fsys := ledgertest.NewFS(seed)
	l, err := ledger.Open("data", ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}, visit)
	...
	fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 3})  // the third fdatasync from now on fails
	...
	fsys.Kill()   // the process ends: files and locks are closed, everything written is kept
	fsys.Crash()  // the machine ends: of what was not synced, a random part is kept

What a crash may do:

  - Each name that was created or removed since its directory was synced, file or directory, is as it was or as it is.
    A directory that vanishes takes along all that was in it.
  - Each file that wasn't synced since its size changed has the old size or the new one. SyncData makes the
    size durable only where a file grew.
  - Each sector of 512 bytes that was written or cut off since the file was synced is as it was or as it is. Sectors are
    never torn themselves, and neighbours of a written sector stay as they are.

What a failure may do: whatever the operation would have done, or a part of it. A write leaves a random number of its first sectors. A
sync makes a random part durable and forgets that the rest is dirty, as Linux does with its page cache: the
process still reads it, a second sync succeeds, and a crash loses it nevertheless.

All chance comes from the seed: the same seed and the same operations do the same. An FS belongs to one goroutine.

# The checks

[Conform] runs what every [Log] has to pass against anything that opens one:

	ledgertest.Conform(t, func(t testing.TB) ledgertest.Open {
		return ledgertest.In(t.TempDir(), ledger.Options{})
	})

[Check] runs the same against a log that belongs to one goroutine, and then has it fail and crash.
[Local] is the ledger of package ledger on an FS. A log that is stored otherwise brings a [Store] of
its own.

[Memory] is another log, for the tests of who commits. It needs no disk, and fails with the error
that it is told:

	m := ledgertest.NewMemory(seed)
	log, err := m.Open(visit)
	...
	m.Fail(3, errLost)  // the third Commit or Seal from now on fails, and so do all that follow
	...
	m.Kill()            // the next Open finds what was committed
*/
package ledgertest
