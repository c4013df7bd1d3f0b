package ingest_test

import (
	"fmt"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
)

// What does ingest itself cost a write: form, size, stamp and encoding, with a
// log and a fold that cost nothing?
func BenchmarkSubmitForm(b *testing.B) {
	for _, ops := range []int{1, 20, 1000} {
		ev := push(1)
		for i := range ops {
			key := events.Key(fmt.Sprintf("settings/%d", i))
			ev.Guards = append(ev.Guards, events.Guard{Key: key})
			ev.Ops = append(ev.Ops, events.Put(key, events.Text("a value that is as long as settings usually are")))
		}
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			s := stub{forget: true}
			in := newIngester(b, &s, &s, ingest.Config{})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := in.Submit(b.Context(), ev, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
