/*
Package replicatest breaks the stores of replicas on purpose. [Memory] is a disk in memory that
loses and tears what was not synced, and fails on demand. [Conform] runs what every replica.Store has
to pass, whatever it keeps its entries on:

	replicatest.Conform(t, func(t testing.TB) replicatest.Open {
		dir := t.TempDir()
		return func() (replica.Store, func() error, error) { ... }
	})
*/
package replicatest
