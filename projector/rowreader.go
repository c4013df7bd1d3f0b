package projector

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/dalvdb/dalvdb/events"
)

type rowReader struct {
	b   []byte
	bad bool
}

func (r *rowReader) uv() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// num reads a number that is stored unsigned and is never negative.
func (r *rowReader) num(most int64) int64 {
	v := r.uv()
	if v > uint64(most) {
		r.bad, r.b = true, nil
		return 0
	}
	return int64(v)
}

func (r *rowReader) iv() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// epoch reads a leader epoch; -1 is none.
func (r *rowReader) epoch() int32 {
	v := r.iv()
	if v != int64(int32(v)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int32(v)
}

func (r *rowReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *rowReader) flag() bool {
	c := r.byte()
	r.bad = r.bad || c > 1
	return c == 1
}

func (r *rowReader) fixed(dst []byte) {
	if len(r.b) < len(dst) {
		r.bad, r.b = true, nil
		return
	}
	copy(dst, r.b)
	r.b = r.b[len(dst):]
}

func (r *rowReader) str() string {
	n := r.uv()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads the length of a list of which each element takes size bytes or
// more, so that no room is made for what cannot be there.
func (r *rowReader) count(size int) int {
	n := r.uv()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *rowReader) done(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%s: %w", what, errRow)
	}
	return nil
}

func (r *rowReader) offset() events.Offset { return events.Offset(r.num(math.MaxInt64)) }

func (r *rowReader) int64() int64 { return r.num(math.MaxInt64) }

func (r *rowReader) int32() int32 { return int32(r.num(math.MaxInt32)) }
