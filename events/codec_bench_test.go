package events

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// oneOpRecord is what most events are: one guarded put of a device.
func oneOpRecord() *Record {
	r := pushRecord()
	r.Event.Guards, r.Event.Ops, r.Event.Meta = r.Event.Guards[:1], r.Event.Ops[:1], nil
	return r
}

// How much of the fold's time for an event goes into reading its record?
func BenchmarkDecodeRecord(b *testing.B) {
	rec := mustEncode(b, oneOpRecord())
	b.SetBytes(int64(len(rec)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRecord(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeRecord(b *testing.B) {
	r := oneOpRecord()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeRecord(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	r := oneOpRecord()
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Event.Digest()
	}
}

// What decoder and encoder gain over the generated code that they stand in for.
func BenchmarkGeneratedCode(b *testing.B) {
	r := oneOpRecord()
	rec := mustEncode(b, r)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := twinDecode(rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proto.Marshal(twinOf(r)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
