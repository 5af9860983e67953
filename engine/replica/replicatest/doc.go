/*
Package replicatest breaks the stores of replicas on purpose.

[Memory] is a disk in memory. It loses and tears what was not synced, and fails on demand:

	m := replicatest.NewMemory(seed)
	s := m.Open()             // a replica.Store
	err := s.Save(state, entries)
	err = s.Write(state, more) // a Save is a Write and a Sync
	m.Crash()                 // of more, nothing is left, or a part, or all
	s = m.Open()

[Conform] runs what every replica.Store has to pass, whatever it keeps its entries on, and
[CheckCrashes] has it fail and crash at every operation:

	replicatest.Conform(t, func(t testing.TB) replicatest.Open {
		dir := t.TempDir()
		return func() (replica.Store, error) { return open(dir) }
	})
	replicatest.CheckCrashes(t, func(seed uint64) replicatest.Disk {
		return replicatest.NewMemory(seed).Disk()
	})
*/
package replicatest
