/*
Package ledger is the durable log of a draw. Records are appended in groups, one sync makes a group
durable, and a restart replays all records in order. An acknowledged bet is a record here.

# Use

	l, err := ledger.Open(dir, ledger.Options{}, visit)                 // replays
	run = ledger.AppendRecord(run, ledger.Bets, agency, count, payload) // any goroutine
	err = l.Commit([][]byte{run, ...}) // one goroutine; durable when it returns
	err = l.Seal()                     // from now on a missing end is noticed
	err = l.Close()

Event loops pack records into runs of their own in parallel, including the checksums. Commit fills
in what depends on a record's place in the log, writes the runs and syncs once. [Ledger.Scan] reads
what is committed. The function [Scan] reads a ledger without opening it, even beside a running
server. Records are never changed or removed. Their meaning is not this package's concern.

# Directory

	LOCK                          held with flock(2) while a Ledger is open
	00000000000000000001.ledger   a finished segment: one that has a successor
	00000000000000081313.ledger   the live segment: the one with the highest name
	SEAL                          how far the log goes; exists once the ledger was sealed
	STATE                         only in a ledger that several servers keep: see below

A segment's name is the sequence number of its first record. Other files are left alone. A ledger's
segments and its seal belong together: to copy or move a ledger, stop the server and take them all.

# Format, version 1

All numbers are little endian; checksums are CRC-32C (Castagnoli). A segment is a header and
records. In the live segment, zeros follow up to its reserved size, which grows in steps.

	0               8       12              28          36      40          60      64
	+---------------+-------+---------------+-----------+-------+-----------+-------+
	| "LOTERIA\n"   |version| ledger id     | first seq | chain | zeros     | crc   |  segment header
	+---------------+-------+---------------+-----------+-------+-----------+-------+

The ledger id is random. It is made with the first segment, and all segments have the same. First
seq is the sequence number of the segment's first record. Chain is the chain value (below) before
that record. The checksum covers the 60 bytes before it. Every version keeps the magic, the version
and the checksum in these places.

	0       4    5      8        16      20      24      28      32
	+-------+----+------+--------+-------+-------+-------+-------+------------+-----+
	|length |kind|group | seq    |agency |count  |payload|chain  | payload    | pad |  record
	|       |    |index |        |       |       |crc    |       |            |     |
	+-------+----+------+--------+-------+-------+-------+-------+------------+-----+

The fields:

  - Length: bytes of payload, at most 16 MiB. Zeros pad the record to a multiple of 8 bytes.
  - Kind: what the record means, not zero. Agency and count are the caller's, too, but not both
    zero.
  - Seq: the sequence number, from 1, without gaps.
  - Group index: how many records lie between this one and the last sync of its segment. Usually
    this is the record's place in its group. After a rotation it starts again at 0. With durability
    [OS] it continues over groups.
  - Payload crc: starts from 0x4c4f5445 instead of 0, so that it isn't zero for an empty payload.
  - Chain: the checksum of the header's first 28 bytes, continued from the chain value of the record
    before. The chain starts with the checksum of the ledger id. So the chain proves a header, and
    all headers before it, before its length is trusted. The header then proves the payload.

A record never spans segments. A record that is larger than a segment gets a larger segment.

The seal is only a segment header: that of a segment that would start after the last sealed record.
It proves the ledger's id, the number of that record and, by its chain value, all headers up to it.

# The tail rule

A crash may leave the last group half written. Any of its sectors (512 bytes, aligned) may still be
as they were before, which is zeros, because space is reserved and zeroed before it is written. In
an intact record none of the 8-byte words is zero: in the header by the rules above, in the payload
because the caller must pass text without NUL bytes. So an unwritten sector can be recognised. When
a replay comes to bytes that are not the next record:

 1. In a finished segment, it is corruption: such a segment was synced whole before its successor
    was created.
 2. Only zeros up to the end of the file: a clean end.
 3. Take the bytes that surely belong to the record: its 32 bytes of header, or all of it if the
    header is intact. If they run past the end of the file, or their part in some sector is all
    zero, it is a torn write, unless 4 applies. Otherwise it is corruption.
 4. A record header follows, of a group that began after the expected record: that group was written
    after the expected record had been synced. So an acknowledged record is damaged: corruption.

A torn write is cut off: the file is truncated, reserved again and synced before anything is
appended. What is cut off was never acknowledged. Corruption is refused with a [CorruptError], and
nothing is changed.

An interrupted rotation leaves a last segment without an intact header and with nothing but zeros
after it. Open removes it.

All this applies to what follows the seal. If the log ends before an intact seal, for whatever
reason (a torn write, a clean end, a segment without a header, no segment at all), it is corruption:
sealed records were durable before the seal was written. A seal that isn't intact is unfinished or
damaged. It doesn't tell how far the log must go, but [Tail] reports that it exists, and the caller
knows what a log must hold before it is sealed. Open and Scan read the seal before they list the
segments, so that it is never ahead of them.

# Writing

	commit    reserve the next step of the segment if needed (with durability [OS], sync first);
	          write the runs, fdatasync, which makes the file's new size durable, too. Writes are of
	          whole blocks (4 kB): zeros fill the last one, and the next group writes it again.
	rotate    check that the segment is still in the directory; truncate it to what is used, fsync;
	          create the new one, reserve it, write its header, fsync; fsync the directory. Only
	          then are records written to it.
	open      take the lock, replay; remove what an interrupted rotation left; fsync the directory;
	          cut off a torn tail; write the newest group again; reserve; fsync. If there is an
	          intact seal, write it again so that it covers all that was replayed; fsync.
	seal      fdatasync what isn't synced yet (with durability [OS]); check that the segment is
	          still in the directory; create SEAL, write it, fsync; fsync the directory. An existing
	          SEAL is overwritten in place, which is atomic.
	close     as seal if there is an intact seal; else only the fdatasync and the check.

With durability [Fsync], commits bypass the operating system's cache (O_DIRECT) where the file
system says that it can. At 500 MB/s of bets, copying into pages that must be found first took more
processor time than everything else together, and a sync waited 1.4 to 6 times as long. What a
commit wrote is hardly ever read before the next start.

Small commits write zeros ahead, so that the commits after them sync faster; see appender.go.

Opening syncs even if nothing was torn. A server that was killed between a write and its sync leaves
records that are whole in the operating system's memory but not on the disk, and after a replay they
count as stored. Open even writes the newest group again, because after a failed sync Linux keeps
the pages and takes them for clean: another sync alone would succeed without writing them.

Any error of a write or a sync is final. A failed sync is never retried: nobody knows what it left
behind.

# What is promised

  - When Commit returns nil, the group survives a crash of the process and of the machine (with
    durability [OS]: of the process).
  - When Open returns nil, so does all that it replayed.
  - Of a group that was not acknowledged, a replay finds all, some whole records from its beginning,
    or nothing.
  - A replay returns records as they were written, in order, without gaps. If it can't, it says
    where.
  - Any single flipped bit in an acknowledged record is noticed.
  - When Seal returns nil, a log that lacks any of the records committed before it is refused from
    then on, for as long as the seal exists.
  - When Seal or Close returns nil, the newest segment was in the ledger's directory. If it isn't,
    they return [ErrGone]. The check is needed because a process can write and sync an open file
    long after the file was removed. A Commit checks only when it begins a new segment.
  - Replay takes memory for one buffer and the largest record, however long the log is.

# A ledger that several servers keep

Servers that hold one draw together agree on a log of entries, by a consensus that is not this
package's concern. [EntryLog] is that log, and what one server promises to the others:

	e, err := ledger.OpenEntryLog(dir, o, visit) // the id and the first record are the cluster's
	err = e.Save(state, entries)                 // one goroutine; durable when it returns
	some, err := e.Entries(first, last, bytes)   // from the disk
	chain, err := e.ChainAt(index)               // the same in all servers, or their logs differ
	tail, err := e.Scan(visit)                   // what is committed
	err = e.Close()

An entry is a group. It replaces others as long as it isn't committed: a new leader may have another
log behind what is committed, and its followers cut off what differs. Up to the commit index, the
segments of all servers are the same, byte for byte: what a server has cut off, and how often it
crashed, leaves no trace. Nothing is kept in memory but where each entry stands, in 12 bytes.

[Open] refuses such a ledger, and OpenEntryLog a single server's. The function [Scan] reads both.

# Format, version 2

It is version 1 with these differences. Segment headers have the version 2. At 40, they have in 8
bytes the size at which a segment ends: it decides where the next one begins, so it is the same in
all servers, and for ever. The ledger id is the cluster's.

The first record belongs to no entry. Behind it stand the entries. Each begins with its mark, a record
of the kind [Mark], followed by its records, of which there may be none. The mark's agency is 0; its
count is how many records the entry has, the mark included; its payload is the entry's index and
term as decimal numbers with a space between them. Indices begin with 1 and have no gaps; terms begin
with 1 and never fall. An entry may go on in the next segment. A record of the kind [Members] is
alone in its entry.

A mark's group index is 0, and those of the other records count from it, or from the beginning of
the segment. So an entry is a group, whatever it shares a sync with: which entries come together is
another thing in every server, and leaves no trace in the segments. The state says it, see below.

The file STATE has two slots of 84 bytes, at 0 and at 4096, and zeros elsewhere:

	0             8       12          28       36     44     52      60     68      72     76      80    84
	+-------------+-------+-----------+--------+------+------+-------+------+-------+------+-------+-----+
	| "LOTSTATE"  |version| ledger id |counter | term | vote |commit | last |commit |last  | flags | crc |
	|             |       |           |        |      |      |       |      |chain  |chain |       |     |
	+-------------+-------+-----------+--------+------+------+-------+------+-------+------+-------+-----+

The intact slot with the higher counter counts. Entries 1 to last were durable when the slot was
written, and the commit index is at most last; the chain values behind both prove the log up to
there. So the state is a seal, too, and there is no file SEAL. The flags are 1 (cutting) while what
stands behind last is being cut off; 2 (together) if the entries behind last share one sync; else 0:
each of them has its own. In every version the magic, the version and the checksum of the 80 bytes
before it stand here.

The term and the vote are a promise of their own: a server that forgets them votes twice. Therefore
a change of them, a cut, and a Save without entries write both slots, one after the other, each with
its sync. A crash tears the slot that is being written, and leaves the old state or the new one. Damage
to one slot, found later, loses nothing: either the other holds the same promise, or the damaged one
was of a promise that nobody was given. One slot that is written over in place, as SEAL is, would be
as good against crashes, but not against damage. Beside entries, a change of only commit or last is written into the
first slot, without a sync: a crash of the machine may set it back, to no earlier than the last write
of both slots.

The tail rule holds, and decides on entries as a whole: of an entry that lacks a record, all is cut
off. Its sync hasn't returned, so it was never promised. An empty last segment is removed, too,
because a smaller entry might have its place in the segment before.

A server that is behind gets many entries at once, and a sync for each would take longer than all
else. If they share one, a crash may leave the second whole and take a sector of the first. By rule
4 that is damage, because the second is another group. So rule 4 doesn't hold for entries that share
a sync, and the state tells which ones do. Before they are written, the first slot says, durably,
that those behind last do, and last is the newest entry that is durable. Before anything is written
behind them, it says, durably, that last is the last of them. So either what was written together
stands behind last, and nothing else; or entries stand there that have a sync each, and rule 4 tells
a damaged one from a torn one. At most the last Save is in doubt, as a single server's last group
is.

To say it costs a sync, so a few entries have one each. The second slot never says it, unless an
opening was interrupted. If the first one is damaged, and a crash has torn entries that share a sync
as well, the server is refused, though it has lost nothing that it promised.

	save      a new term or vote, or a cut: the state into both slots, with cutting set if there is one;
	          cut; then again with cutting 0. Then four entries or more: together into the first slot,
	          fdatasync; write them all, fdatasync. Fewer entries: if the first slot says together, one
	          that doesn't, fdatasync; then for each: write, fdatasync. A rotation as above where it is
	          needed. Then the new commit and last into the first slot. Without entries, what has
	          changed into both slots.
	cut       look whether the newest segment still stands in the directory; remove the segments that
	          begin behind the last entry that stays, the newest first, with an fsync of the
	          directory after each; truncate the one in which it ends, write that entry once more,
	          reserve, fsync.
	open      take the lock, read the state, replay (with cutting set, only through last); refuse a
	          log that isn't what the state says; the state into both slots; cut as above, if anything
	          stands behind the last whole entry; write the last entry once more, or all that share
	          its sync, reserve, fsync; the state into both slots, with all that was found.
	make      the state into both slots, fsync, fsync of the directory; only then a segment. So a log
	          without a state has lost it. A state that promises nothing may be without a log.

A cut says in the state what it will do before it does anything. From then on nobody looks at what is
behind last, so it doesn't matter how much of it a crash leaves: half of a cut would look like
damage. Nor does it matter that it may be lost with the crash: who cuts has the word of a newer
leader that these entries are not committed, and never will be. Cutting is 0 again, durably, before
a new entry is written, which counts from then on.

What is promised, beside the above:

  - When Save returns nil, its term, vote and entries survive a crash of the process and of the
    machine, and what it replaced doesn't come back. Commit survives a crash of the process, and of
    the machine if the Save had no entries.
  - An interrupted Save leaves nothing; or the new term and vote, and of the log the old one, or what
    comes before the new entries and any number of them, from the first one on, each whole.
  - No Save cuts below the Commit that was saved before it. After a crash of the machine, Commit may
    be less, and then only the consensus prevents a cut below what it was. It never lets anybody ask.
  - A log that is shorter than commit or last, or another one than their chain values prove, or that
    has an entry of a later term than the state, is refused, and so is a log without a state. The
    error says that the server has to join again under a new id: under the old one, the others count
    on what it has lost.

It is tested with a model that is slow and obvious: every operation of Saves and cuts of small logs
crashes or fails, and so does an operation of the two openings that follow; random logs live eight
lives; afterwards the segments are compared with those of a server that was given the same entries
and never crashed: entrycrash_test.go, which tries each crash 40 times with LOTERIA_CRASHES=40, and
fails if the disk lies. Every bit of the state, cuts at every byte of the log, every
sector that was durable before the last Save, and what is missing or from another copy:
entrydamage_test.go. Damaged states, logs and marks: the fuzz targets. Readers of
all kinds beside a writer that cuts, on a real disk: entryscan_test.go.

Not noticed is a loss behind what a crash of the machine left in the state, in the cases in which a
single server wouldn't notice it, either.

# What is assumed of the disk, and what is not noticed

  - When fsync and fdatasync return, the data is on stable storage; drives don't lie about it.
  - A sector of 512 bytes is written whole or not at all; neighbours of a written sector stay as
    they are.
  - Reserved space reads as zeros until it is written.
  - A rename or a new name is durable once its directory is synced. (The ledger renames nothing.)
  - flock works. Local file systems do this; for network file systems, see their manuals.
  - Damage is random. The checksums don't protect against forged records.
  - Damage after the seal that looks just like a crash is taken for one. If whole sectors of the
    very last group turn to zero, or the live segment is cut short, or the newest segments
    disappear, all after they were acknowledged, nothing that is left proves it. If the seal
    disappears with them, that holds for sealed records, too.
  - If an older copy of the same ledger, with the same newest segment, replaces the directory while
    it is open, only [Ledger.Scan] notices then. If a seal is written afterwards, the next Open
    notices, too: the seal is ahead of the copy.

# What is tested

  - What every log must do that takes the ledger's place: ledgertest.Conform.
  - A crash of the process or the machine at every operation of four lives in a row, which also
    seal, and a failure of every operation: package ledgertest. Its checks are themselves tested
    with ledgers that skip a sync (the seal's, for example), hide an error or forget a record.
  - Every subset of the last group's sectors lost; a cut at every byte of it; zeros from every byte
    on: tail_test.go.
  - Every bit of a log of two segments, and each part of the first, a middle and the last record of
    both: tail_test.go, damage_test.go.
  - Missing, renamed, swapped, cut and foreign segments, interrupted rotations: one row each,
    tail_test.go.
  - Sealed ledgers: a cut at every byte; lost sectors, records and segments, before the seal and
    after it; every bit of the seal, a cut at every byte of it, seals of other ledgers; a failure of
    every operation of Seal; scans beside it: seal_test.go.
  - A directory that is removed, moved or replaced while it is open, also on a real file system:
    seal_test.go.
  - Arbitrary damage, and arbitrary bytes as a segment: the fuzz targets.
  - A disk that is full, can't be read, or fails to sync: fault_test.go, and with the whole server
    in package engine and (on a small file system, if run by root) in cmd/loteria.
  - Ledgers of all format versions in testdata/ledgers: they stay readable for ever.
  - The whole draw, with crashes of all sides: the simulation in package engine; with real processes
    and kill -9 in cmd/loteria.

# How long a restart takes

A ledger of 10 million bets (457 MB, 66,676 records, 1 segment) on 2 cores, from the operating
system's cache: Scan alone takes 0.25 s. The server also looks for the winning bets. It serves after
0.33 s, or after 1.0 s at worst beside other work, with 19 MB of memory, most of it not the
ledger's. To measure it again:

	loteria dataset --out big --bets 10000000
	loteria demo --dataset big --data-dir draw
	SERVER_DATA_DIR=draw loteria server        # the line "action: ledger" has the time
	SERVER_DATA_DIR=draw loteria ledger verify

# What is not tested

  - Power cuts of real drives; drives that lie about a flush or write sectors they were not told to.
  - A file system's own bugs; network file systems; systems other than Linux, where space isn't
    reserved.
  - Sectors smaller than 512 bytes, or torn within. (Larger ones are whole multiples, and covered.)
  - Damage to several places at once, except by fuzzing. CRC-32C notices it with a probability, not
    for sure.
*/
package ledger
