package connectapi

import "net/http"

// roomy answers requests on a stack that is large enough from the start.
//
// For each request over HTTP/2 net/http makes a goroutine. Its stack begins small
// and would be doubled on the way down, through Connect and the decoder of the
// message, each time with more frames on it, all of which must be found and mended:
// that takes as long as a tenth of a small request. Here there is next to nothing
// on it. CockroachDB does the same for what serves gRPC (pkg/util/growstack).
func roomy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 { // that of HTTP/1.1 is of the connection, and has grown with its first request
			growStack()
		}
		next.ServeHTTP(w, r)
	})
}

// stackRoom is what a push takes of the stack, and some. What is not used of it
// the garbage collector takes back from a request that lasts.
const stackRoom = 12 << 10 // bytes

// growStack makes the stack grow at once, by having a frame of that size.
//
//go:noinline
func growStack() byte {
	var frame [stackRoom]byte
	return frame[at(&frame)]
}

//go:noinline
func at(frame *[stackRoom]byte) int { return int(frame[0]) }
