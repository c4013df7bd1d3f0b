package simulation

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// answer takes what a handler writes.
type answer struct {
	header http.Header
	sent   http.Header // as it was when the first byte was written
	code   int
	body   bytes.Buffer

	watch  bool // it is of a watch, which hangs up
	hangUp func()
	seen   int // how much of the body was looked at
}

var (
	_ http.ResponseWriter = (*answer)(nil)
	_ http.Flusher        = (*answer)(nil)
)

func newAnswer(watch bool, hangUp func()) *answer {
	return &answer{header: make(http.Header), watch: watch, hangUp: hangUp}
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code, a.sent = code, a.header.Clone()
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() {
	a.WriteHeader(http.StatusOK)
	if a.watch && a.whole() {
		a.hangUp()
	}
}

// whole reports whether what a watch has sent ends with a state that is whole: with
// a position, or the news that there is none.
func (a *answer) whole() bool {
	const head = 5 // of an envelope: flags and length
	const end = 2  // a flag of the last envelope, which holds no message
	for {
		rest := a.body.Bytes()[a.seen:]
		if len(rest) < head {
			return false
		}
		size := head + int(binary.BigEndian.Uint32(rest[1:head]))
		if len(rest) < size || rest[0]&end != 0 {
			return false
		}
		a.seen += size
		var m dalvdbv1.ReplicaServiceWatchResponse
		if err := decode(rest[0], rest[head:size], &m); err != nil {
			panic(fmt.Sprintf("simulation: a watch that cannot be read: %v", err))
		}
		if m.GetPosition() != nil || m.GetSnapshotRequired() {
			return true
		}
	}
}

// decode decodes what an envelope holds.
func decode(flags byte, data []byte, m proto.Message) error {
	const compressed = 1
	if flags&compressed != 0 {
		unzip, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return err
		}
		if data, err = io.ReadAll(unzip); err != nil {
			return err
		}
	}
	return proto.Unmarshal(data, m)
}

// response is what the client gets.
func (a *answer) response(req *http.Request) *http.Response {
	a.WriteHeader(http.StatusOK)
	trailer := make(http.Header)
	return &http.Response{
		Status: http.StatusText(a.code), StatusCode: a.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.sent, Trailer: trailer, Body: io.NopCloser(bytes.NewReader(a.body.Bytes())),
		ContentLength: int64(a.body.Len()), Request: req,
	}
}
