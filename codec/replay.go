package codec

// dateLast is the latest day that a birthdate can be.
const dateLast Date = 9999_12_31

// ReplayBatch reads a batch from the ledger, which was validated before. It is ParseBatch without a
// limit on birthdates, so a replay gives the same result on any day. It appends the winning lines
// to winners. A payload that ParseBatch can't have accepted on any day is an *Error.
func ReplayBatch(payload []byte, winningNumber uint32, winners []byte) (Batch, []byte, error) {
	return ParseBatch(payload, Rules{Today: dateLast, WinningNumber: winningNumber}, winners)
}
