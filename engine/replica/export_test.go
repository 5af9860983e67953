package replica

// PromisesMax is promisesMax.
const PromisesMax = promisesMax

// Waiting is what waits for the disk, and the data that is kept in memory although it is saved.
func (r *Replica) Waiting() (promises, unsavedBytes, recentBytes int) {
	n := r.node
	promises, unsavedBytes = len(n.next.promises), dataBytes(n.next.entries)
	if n.saving != nil {
		promises += len(n.saving.promises)
		unsavedBytes += dataBytes(n.saving.entries)
	}
	return promises, unsavedBytes, n.storage.recentBytes
}
