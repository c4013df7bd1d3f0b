// Package compression says how what is written to Kafka is compressed.
//
// What comes in: batches of records. What goes out: the same, compressed where it is
// worth it. What it promises: any Kafka that knows zstd reads them. What it refuses to
// do: it does not gather records, which would make more of it worth compressing.
package compression

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kgo"
)

// smallBytes is what a batch is compressed from. A smaller one, which is a record or a
// few, would save some hundred bytes. For these the client, the broker, which looks
// into what it gets, and each reader would pay as much as for all else that they do
// with it.
const smallBytes = 1 << 10

// Option has a client compress what it writes with zstd, at its fastest, but for
// batches that are small.
func Option() kgo.ProducerOpt {
	zstd, err := kgo.DefaultCompressor(kgo.ZstdCompression().WithLevel(1), kgo.NoCompression())
	if err != nil {
		panic(err) // of a codec that nobody knows
	}
	return kgo.WithCompressor(butSmall{zstd})
}

type butSmall struct{ kgo.Compressor }

// Compress implements kgo.Compressor.
func (c butSmall) Compress(dst *bytes.Buffer, src []byte, flags ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	if len(src) < smallBytes {
		return src, kgo.CodecNone
	}
	return c.Compressor.Compress(dst, src, flags...)
}
