package events

// PartitionOf returns the partition of a user among count partitions, as
// Kafka's Java client chooses it for a record key: murmur2 of the key, its
// sign bit masked away, modulo the count.
//
// The embedded log uses the same rule, so that a log can be copied to Kafka
// record by record and any other producer with default settings agrees.
// Source: org.apache.kafka.clients.producer.internals.BuiltInPartitioner.
func PartitionOf(user UserID, count int32) Partition {
	return Partition(int32(murmur2(string(user))&0x7fffffff) % count)
}

// murmur2 is the 32-bit MurmurHash2 with the seed that Kafka uses.
// Source: org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data string) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(data))
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
