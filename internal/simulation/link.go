package simulation

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// A Fault is what happens to a request on its way.
type Fault uint8

// The faults.
const (
	NoFault     Fault = iota
	NoNetwork         // it is not sent, and the caller knows
	LoseRequest       // it does not arrive
	LoseAnswer        // it is answered, and the answer does not arrive
	CutAnswer         // the answer breaks off in the middle
	HoldRequest       // it does not arrive yet: Deliver lets it, when the caller has long given up
)

// ErrLost is what a caller meets of a request or an answer that was lost.
var ErrLost = errors.New("the connection was reset")

// A Link is the way of one device to its server. It is for one goroutine.
type Link struct {
	Next interface {
		Do(req *http.Request) (*http.Response, error)
	}

	// Fault says what happens to a request; nil: nothing.
	Fault func(req *http.Request) Fault

	// Cut says how much of an answer of n bytes comes before CutAnswer cuts it.
	Cut func(n int) int

	held []*http.Request
}

// Do implements connect.HTTPClient.
func (l *Link) Do(req *http.Request) (*http.Response, error) {
	fault := NoFault
	if l.Fault != nil {
		fault = l.Fault(req)
	}
	switch fault { //nolint:exhaustive // the others are of the answer
	case NoNetwork:
		return nil, ErrDown
	case LoseRequest:
		return nil, ErrLost
	case HoldRequest:
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		late := req.Clone(req.Context())
		late.Body = io.NopCloser(bytes.NewReader(body))
		l.held = append(l.held, late)
		return nil, ErrLost
	}
	res, err := l.Next.Do(req)
	if err != nil {
		return nil, err
	}
	switch fault { //nolint:exhaustive // the others were of the request
	case LoseAnswer:
		return nil, ErrLost
	case CutAnswer:
		whole, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:l.Cut(len(whole))]), broken{}))
	}
	return res, nil
}

// broken is the end of a connection that broke off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, ErrLost }

// Deliver lets the first request that was held arrive, and reports whether there was
// one. Nobody waits for the answer.
func (l *Link) Deliver() bool {
	if len(l.held) == 0 {
		return false
	}
	late := l.held[0]
	l.held = l.held[1:]
	if res, err := l.Next.Do(late); err == nil { // else the node does not run, and it is lost after all
		_ = res.Body.Close()
	}
	return true
}

// Forget drops the requests that were held.
func (l *Link) Forget() { l.held = nil }
