package events

import "testing"

// The vectors are those of Kafka's own tests (org.apache.kafka.common.utils.UtilsTest).
func TestMurmur2IsKafkas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

// Worked out by hand from the vectors: the sign bit is masked away, which is
// not the same as taking the absolute value.
func TestPartitionOfIsKafkasDefault(t *testing.T) {
	for _, c := range []struct {
		user  UserID
		count int32
		want  Partition
	}{
		{"abc", 64, 479470107 % 64},
		{"21", 64, (-973932308 & 0x7fffffff) % 64},
		{"21", 7, 1173551340 % 7},
		{"foobar", 100, 1357151166 % 100},
		{"foobar", 1, 0},
	} {
		if got := PartitionOf(c.user, c.count); got != c.want {
			t.Errorf("PartitionOf(%q, %d) = %d, want %d", c.user, c.count, got, c.want)
		}
	}
}

func TestPartitionOfSpreadsUsers(t *testing.T) {
	const users, count = 64_000, 64
	var got [count]int
	for i := range users {
		got[PartitionOf(UserID(Number(int64(i)).String()), count)]++
	}
	for p, n := range got {
		if n < users/count*8/10 || n > users/count*12/10 {
			t.Errorf("partition %d has %d of %d users", p, n, users)
		}
	}
}
