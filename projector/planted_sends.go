package projector

import "sync"

// plantedSends is what plantSendsHoldFold has the fold wait for: a send holds it
// for reading.
var plantedSends sync.RWMutex

func plantedSend[P any](send func(*P) error) func(*P) error {
	return func(p *P) error {
		plantedSends.RLock()
		defer plantedSends.RUnlock()
		return send(p)
	}
}
