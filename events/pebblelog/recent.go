package pebblelog

import "github.com/dalvdb/dalvdb/events"

// recentBytesMax bounds the records that are held in memory for readers near the
// end: at full speed some hundreds of milliseconds, else minutes. They are held
// and let go by groups, because the records of a group share one array, so that
// one of them keeps all of them in memory.
const recentBytesMax = 16 << 20

// recentRecordBytes is what a record counts for besides its bytes.
const recentRecordBytes = 64

// recent knows which records the partitions hold in memory, oldest first. It is
// owned by the committer.
type recent struct {
	groups []recentGroup
	bytes  int
}

type recentGroup struct {
	bytes int
	parts []recentPart
}

// recentPart is how many records of a group are of one partition.
type recentPart struct {
	partition events.Partition
	records   int
}

// add takes up a group, and lets go of the oldest ones that are too much.
func (r *recent) add(g recentGroup, partitions []partition) {
	r.groups = append(r.groups, g)
	r.bytes += g.bytes
	for r.bytes > recentBytesMax && len(r.groups) > 1 {
		oldest := r.groups[0]
		for _, part := range oldest.parts {
			partitions[part.partition].forget(part.records)
		}
		r.bytes -= oldest.bytes
		r.groups[0] = recentGroup{}
		r.groups = r.groups[1:]
	}
}
