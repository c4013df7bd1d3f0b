package projector

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/dalvdb/dalvdb/events"
)

// hash is a link of a running SHA-256.
type hash [sha256.Size]byte

// recordHash extends the log hash of a partition:
// SHA-256 over (previous, offset, record bytes).
func recordHash(prev hash, off events.Offset, record []byte) hash {
	h := sha256.New()
	var head [len(prev) + 8]byte
	copy(head[:], prev[:])
	binary.BigEndian.PutUint64(head[len(prev):], uint64(off))
	h.Write(head[:])
	h.Write(record)
	var sum hash
	h.Sum(sum[:0])
	return sum
}

// verdictHash extends the verdict hash of a user: SHA-256 over (previous,
// offset, outcome, failed guards with the versions they met).
func verdictHash(prev hash, off events.Offset, outcome events.Outcome, conflicts []events.Conflict) hash {
	var stack [256]byte
	b := append(stack[:0], prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	b = append(b, byte(outcome))
	for _, c := range conflicts {
		b = binary.BigEndian.AppendUint32(b, uint32(c.Guard))
		b = binary.BigEndian.AppendUint64(b, uint64(c.Version))
	}
	return sha256.Sum256(b)
}
