package projector

// overlay holds rows by name. Rows that are in it are not changed but replaced.
//
// Between groups the rows are as they are committed. There are at most about
// overlayRows of them, and they keep at most overlayBytes alive: then they are
// let go together, which costs less than keeping account of which is used.
//
//	bytes == sum of weigh over rows
type overlay[K comparable, T any] struct {
	rows  map[K]*T
	order []K // those that changed in this group, by first change
	dirty map[K]struct{}
	weigh func(*T) int // what a row keeps alive beyond its own fields, in bytes; nil rows too
	bytes int
}

// Every partition has an overlay of each kind, so that these bound what the
// overlays of a node of 64 partitions hold to some 100 MiB at the very worst.
const (
	overlayRows  = 1_024
	overlayBytes = 256 << 10
)

func newOverlay[K comparable, T any](weigh func(*T) int) overlay[K, T] {
	return overlay[K, T]{rows: make(map[K]*T), dirty: make(map[K]struct{}), weigh: weigh}
}

// load returns the row, from below if it is not known yet.
func (o *overlay[K, T]) load(k K, below func() (*T, error)) (*T, error) {
	if row, ok := o.rows[k]; ok {
		return row, nil
	}
	row, err := below()
	if err == nil {
		o.rows[k] = row
		o.bytes += o.weigh(row)
	}
	return row, err
}

func (o *overlay[K, T]) store(k K, row *T) {
	o.replace(k, row)
	if _, ok := o.dirty[k]; !ok {
		o.dirty[k] = struct{}{}
		o.order = append(o.order, k)
	}
}

// replace puts a row in the place of the one that is there, if any.
func (o *overlay[K, T]) replace(k K, row *T) {
	if was, ok := o.rows[k]; ok {
		o.bytes -= o.weigh(was)
	}
	o.rows[k] = row
	o.bytes += o.weigh(row)
}

// drop lets go of a row.
func (o *overlay[K, T]) drop(k K) {
	if was, ok := o.rows[k]; ok {
		o.bytes -= o.weigh(was)
		delete(o.rows, k)
	}
}

// reset begins a new group, after the rows were committed.
func (o *overlay[K, T]) reset() {
	if len(o.rows) > overlayRows || o.bytes > overlayBytes {
		clear(o.rows)
		o.bytes = 0
	}
	clear(o.dirty)
	o.order = o.order[:0]
}
