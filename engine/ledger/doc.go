/*
Package ledger is the durable log of a draw: records are appended in groups, each group is made
durable with one sync, and a restart replays them all, in order. An acknowledged bet is a record
here.

# Use

	l, err := ledger.Open(dir, ledger.Options{}, visit)                 // replays
	run = ledger.AppendRecord(run, ledger.Bets, agency, count, payload) // any goroutine
	err = l.Commit([][]byte{run, ...}) // one goroutine; durable when it returns
	err = l.Seal()                     // from now on a missing end is noticed
	err = l.Close()

Event loops pack records into runs of their own, checksums included, in parallel. Commit fills in
what depends on a record's place in the log, writes the runs and syncs once. [Ledger.Scan] reads what
is committed; the function [Scan] reads a ledger without opening it, beside a running server, too.
Records are never changed or removed. What they mean is not this package's concern.

# Directory

	LOCK                          held with flock(2) while a Ledger is open
	00000000000000000001.ledger   a finished segment: one that has a successor
	00000000000000081313.ledger   the live segment: the one with the highest name
	SEAL                          how far the log goes; only there once the ledger was sealed

A segment's name is the sequence number of its first record. Other files are left alone. A ledger's
segments and its seal all belong together: to copy or move one, stop the server and take them all.

# Format, version 1

All numbers are little endian; checksums are CRC-32C (Castagnoli). A segment is a header, records,
and, if it is the live one, zeros up to its reserved size, which grows in steps.

	0               8       12              28          36      40          60      64
	+---------------+-------+---------------+-----------+-------+-----------+-------+
	| "LOTERIA\n"   |version| ledger id     | first seq | chain | zeros     | crc   |  segment header
	+---------------+-------+---------------+-----------+-------+-----------+-------+

The ledger id is random, made with the first segment and the same in all. First seq is the sequence
number of the segment's first record. Chain is the chain value (below) before that record. The
checksum covers the 60 bytes before it. In every version the magic, the version and the checksum
stand here.

	0       4    5      8        16      20      24      28      32
	+-------+----+------+--------+-------+-------+-------+-------+------------+-----+
	|length |kind|group | seq    |agency |count  |payload|chain  | payload    | pad |  record
	|       |    |index |        |       |       |crc    |       |            |     |
	+-------+----+------+--------+-------+-------+-------+-------+------------+-----+

What stands in it:

  - Length: bytes of payload, at most 16 MiB. Zeros pad the record to a multiple of 8 bytes.
  - Kind: what the record means, not zero. Agency and count are the caller's, too, but not both
    zero.
  - Seq: the sequence number, from 1, without gaps.
  - Group index: how many records lie between this one and the last sync of its segment. Usually
    that is its place in the group that was committed; a rotation begins anew with 0, and with
    durability [OS] it goes on counting.
  - Payload crc: begins with 0x4c4f5445 instead of 0, so that it isn't zero for an empty payload.
  - Chain: the checksum of the header's first 28 bytes, continued from the chain value of the record
    before. The chain begins with the checksum of the ledger id. So a header is proved, together
    with the whole history of headers, before its length is believed; a payload is proved by its
    header.

A record never spans segments. One that is larger than a segment gets a larger segment.

The seal is a segment header and nothing else: the one of a segment that would begin behind the last
record that is sealed. So it proves the ledger's id, the number of that record and, with its chain
value, the whole history of headers up to it.

# The tail rule

A crash may leave the last group half written: any of its sectors (512 bytes, aligned) may still be
what they were before, which is zeros, because space is reserved and zero before it is written. An
intact record has something in each of its 8-byte words: in the header by the rules above, in the
payload because it is text without NUL bytes, which is the caller's duty. That makes an unwritten
sector recognisable. When a replay comes to bytes that are not the next record:

 1. In a finished segment, it is corruption: such a segment was synced whole before its successor
    was created.
 2. Only zeros up to the end of the file: a clean end.
 3. What surely belongs to the record (its 32 bytes of header, or all of it if the header is intact)
    runs past the end of the file, or its part in some sector is all zero: a torn write, unless 4
    applies. Else it is corruption.
 4. A record header behind it, of a group that began after the expected record: that group was
    written after the expected one had been synced. What is damaged here was acknowledged:
    corruption.

A torn write is cut off: the file is truncated, reserved again and synced before anything is
appended. What was cut was never acknowledged. Corruption is refused with a [CorruptError], and
nothing is changed.

A last segment without an intact header and with nothing but zeros behind it is what an interrupted
rotation leaves; it is removed.

All this is for what lies behind the seal. If the log ends before an intact seal, for whatever
reason (a torn write, a clean end, a segment without a header, no segment at all), it is corruption:
what is sealed was durable before the seal was written. A seal that isn't intact was interrupted or
is damaged. Nothing is measured by it, but [Tail] tells of it, and the caller knows what a log holds
before it is sealed. Open and Scan read the seal before they list the segments, so that it is never
ahead of them.

# Writing

	commit    reserve the next step of the segment if it is needed (with durability [OS], sync
	          first); write the runs, fdatasync, which makes the file's new size durable, too.
	          Writes are of whole blocks (4 kB): the last one is filled up with zeros, and
	          written again with what the next group has for it.
	rotate    look whether the segment still stands in the directory; truncate it to what is used,
	          fsync; create the new one, reserve it, write its header, fsync; fsync the directory.
	          Only then are records written to it.
	open      take the lock, replay; remove what an interrupted rotation left; fsync the directory;
	          cut a torn tail; write the newest group once more; reserve; fsync. If there is an
	          intact seal, write it once more, through all that was replayed; fsync.
	seal      fdatasync what isn't synced yet (with durability [OS]); look whether the segment still
	          stands in the directory; create SEAL, write it, fsync; fsync the directory. A SEAL that
	          is there already is written over in place, which is atomic.
	close     as seal if there is an intact seal; else only the fdatasync and the look.

With durability [Fsync], commits go past the operating system's cache (O_DIRECT) where the file
system says that it can: for 500 MB/s of bets, copying into pages that must be found first took more
processor time than everything else together, and a sync waited 1.4 to 6 times as long. Nobody reads
what a commit wrote before the next start.

Small commits take zeros along for what will follow them, so that the next ones sync faster; see
appender.go.

Opening syncs even if nothing was torn: a server that was killed between a write and its sync leaves
records that are whole in the operating system's memory but not on the disk, and after a replay they
count as stored. It even writes the newest group again, because after a failed sync Linux keeps the
pages and takes them for clean: another sync alone would succeed without writing them.

Any error of a write or a sync is final. A failed sync is never tried again: nobody knows what it
left behind.

# What is promised

  - When Commit returns nil, the group survives a crash of the process and of the machine (with
    durability [OS]: of the process).
  - When Open returns nil, so does all that it replayed.
  - A group that was not acknowledged is found as a whole, or as a beginning of whole records, or
    not at all.
  - A replay returns records as they were written, in order, without gaps; or it says where it
    can't.
  - Any single bit that flips in an acknowledged record is noticed.
  - When Seal returns nil, a log that lacks any of the records committed before it is refused from
    then on, for as long as the seal is there.
  - When Seal or Close returns nil, the newest segment stood in the ledger's directory. If it
    doesn't, they say so with [ErrGone]: whoever has a file open can write and sync it long after it
    was removed, and a Commit looks only when it begins a new segment.
  - Replay takes memory for one buffer and the largest record, however long the log is.

# What is assumed of the disk, and what is not noticed

  - When fsync and fdatasync return, the data is on stable storage; drives don't lie about it.
  - A sector of 512 bytes is written whole or not at all; neighbours of a written sector stay as
    they are.
  - Reserved space reads as zeros until it is written.
  - A rename or a new name is durable once its directory is synced. (Nothing is ever renamed here.)
  - flock works: true of local file systems; of network file systems, ask their manual.
  - Damage is random. The checksums are no protection against somebody who forges records.
  - Damage that looks just like a crash is taken for one, unless it lies before a seal: if whole
    sectors of the very last group turn to zero, or the live segment is cut short, or the newest
    segments disappear altogether, after they were acknowledged, nothing that is left can prove it.
    Nor can anything if the seal disappears with them.
  - If the directory is replaced by an older copy of the same ledger while it is open, nobody
    notices it then but [Ledger.Scan]. If the ledger is sealed afterwards, the next Open does: the
    seal is ahead of the copy.

# What is tested

  - What any log has to be that stands in for a ledger: ledgertest.Conform.
  - Crash, process or machine, at every operation of four lives in a row, which also seal, and a
    failure of every operation: package ledgertest, whose checks are themselves tested with ledgers
    that skip a sync, the seal's for one, hide an error or forget a record.
  - Every subset of the last group's sectors lost; a cut at every byte of it; zeros from every byte
    on: tail_test.go.
  - Every bit of a log of two segments, and each part of the first, a middle and the last record of
    both: tail_test.go, damage_test.go.
  - Missing, renamed, swapped, cut and foreign segments, interrupted rotations: one row each,
    tail_test.go.
  - Sealed ledgers: a cut at every byte, sectors, records and segments that are lost, before the
    seal and behind it; every bit of the seal, a cut at every byte of it, seals of other ledgers; a
    failure of every operation of Seal; scans beside it: seal_test.go.
  - A directory that is removed, moved or replaced while it is open, on a real file system, too:
    seal_test.go.
  - Arbitrary damage, and arbitrary bytes as a segment: the fuzz targets.
  - A disk that is full, can't be read, or fails to sync: fault_test.go, and with the whole server
    in package engine and (on a small file system, if run by root) in cmd/loteria.
  - Ledgers of all format versions in testdata/ledgers: what is there stays readable for ever.
  - The whole draw, with crashes of all sides: the simulation in package engine; with real processes
    and kill -9 in cmd/loteria.

# How long a restart takes

A ledger of 10 million bets (457 MB, 66,676 records, 1 segment) on 2 cores, from the operating
system's cache: Scan alone takes 0.25 s; the server, which also looks for the winning bets, serves
after 0.33 s, 1.0 s at worst beside other work, with 19 MB of memory, most of it not the ledger's.
To see it again:

	loteria dataset --out big --bets 10000000
	loteria demo --dataset big --data-dir draw
	SERVER_DATA_DIR=draw loteria server        # the line "action: ledger" has the time
	SERVER_DATA_DIR=draw loteria ledger verify

# What is not tested

  - Power cuts of real drives, and drives that lie about a flush or write sectors that were not
    asked for.
  - A file system's own bugs, network file systems, and systems other than Linux, where space isn't
    reserved.
  - Sectors smaller than 512 bytes or torn within. (Larger ones are whole multiples, and covered.)
  - Damage to several places at once is tested by fuzzing only; CRC-32C notices it with a
    probability, not for sure.
*/
package ledger
