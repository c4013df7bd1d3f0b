package events

// An Entry is a key with what it holds.
type Entry struct {
	Key     Key
	Version Offset // 0 when the key is absent
	Values  []Value
	Writer  Writer // of the last change; also of the deletion, where it is still known
	Time    Time   // of the last change
}

// ChangeKind says how a Change is told.
type ChangeKind uint8

// The kinds of change.
const (
	Deleted  ChangeKind = iota + 1 // the key is absent
	Replaced                       // the key holds Values
	Patched                        // see Change
)

// A Change says what became of one key. To apply a patch, take out every value
// of Removed and of Added, then append Added, in order.
type Change struct {
	Key     Key
	Version Offset // 0 when deleted
	Writer  Writer
	Time    Time
	Kind    ChangeKind
	Values  []Value // of Replaced
	Removed []Value // of Patched
	Added   []Value // of Patched
}

// Size is what the change counts for in limits, in bytes.
func (c *Change) Size() int {
	n := len(c.Key) + len(c.Writer.ID) + len(c.Writer.Actor) + 32
	for _, vs := range [...][]Value{c.Values, c.Removed, c.Added} {
		for _, v := range vs {
			n += v.Size() + 8
		}
	}
	return n
}

// A ChangeEvent is an accepted event as those see it who follow the changes.
type ChangeEvent struct {
	User     UserID
	Position Position
	Writer   Writer
	Time     Time
	Meta     []Meta
	Changes  []Change
}
