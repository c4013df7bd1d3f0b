package connectapi

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

const requestBytesMax = events.RequestBytesMax

// handlerOptions are how the service of a port speaks.
func (a *API) handlerOptions(p port) []connect.HandlerOption {
	interceptors := []connect.Interceptor{edge{a}}
	if a.traces[p] != nil {
		interceptors = []connect.Interceptor{a.traces[p], edge{a}}
	}
	return []connect.HandlerOption{
		connect.WithInterceptors(interceptors...),
		connect.WithRecover(a.recovered),
		connect.WithReadMaxBytes(requestBytesMax),
		connect.WithCodec(protoCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		compression(),
		connect.WithCompressMinBytes(compressMin),
	}
}

// compression is gzip, which is good for no more than the limit of a request.
func compression() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedGzip{} },
		func() connect.Compressor { return newCompressor() })
}

// protoCodec reads and writes Protobuf, and refuses requests that would become
// much larger in memory than they are.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (c protoCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

func (protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage(message)
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

func (protoCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage(message)
	}
	return explained(m, wire.UnmarshalProto(data, m))
}

// explained returns the error of a codec, nil if the message tells it instead.
func explained(m proto.Message, err error) error {
	var wrong *events.InvalidError
	if errors.As(err, &wrong) {
		undecoded(m, wrong)
		return nil
	}
	return err
}

// jsonCodec reads and writes JSON, and refuses fields it does not know: whoever
// misspells "guards" must not have the write carried out without them.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (c jsonCodec) Marshal(message any) ([]byte, error) {
	return c.MarshalAppend(nil, message)
}

func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage(message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

func (c jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage(message)
	}
	return explained(m, wire.UnmarshalJSON(data, m))
}

func errNotMessage(v any) error { return fmt.Errorf("%T is not a message", v) }

// boundedGzip decompresses up to the limit of a request. What Connect makes of
// a message that is larger is to decompress the rest as well, only to tell its
// size: a request of 2 MiB would be good for 2 GiB of work.
type boundedGzip struct {
	gzip gzip.Reader
	left int64
}

var errDecompressed = fmt.Errorf("more than %d bytes when decompressed", requestBytesMax)

func (g *boundedGzip) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errDecompressed
	}
	if int64(len(p)) > g.left {
		p = p[:g.left]
	}
	n, err := g.gzip.Read(p)
	g.left -= int64(n)
	return n, err
}

func (g *boundedGzip) Close() error { return g.gzip.Close() }

func (g *boundedGzip) Reset(r io.Reader) error {
	g.left = requestBytesMax + 2 // one more than Connect reads to see that it is too much
	return g.gzip.Reset(r)
}

// newCompressor makes a compressor that is fast rather than thorough: entries
// repeat keys and writers, which even the fastest level finds.
func newCompressor() *gzip.Writer {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant of the package
	}
	return w
}
