package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	// providerTimeout bounds one fetch of the provider's keys.
	providerTimeout = 5 * time.Second

	// providerEvery is how often the keys are fetched. While the provider can be
	// reached, no token is verified with a key that it has dropped longer ago. One
	// that was verified before is remembered until it expires.
	providerEvery = time.Hour

	// providerRetryEvery is how often that is tried while it fails.
	providerRetryEvery = time.Minute

	// providerUnknownEvery is how often a token of an unknown key may cause a
	// fetch, so that forged ones cannot be turned against the provider, and
	// providerFailedEvery how soon after a fetch that failed.
	providerUnknownEvery = 30 * time.Second
	providerFailedEvery  = 5 * time.Second

	// providerBytesMax bounds what is read of the provider's answer.
	providerBytesMax = 1 << 20

	// providerMetMax bounds what is remembered of unknown keys. What is forgotten
	// is asked for once more.
	providerMetMax = 10_000

	// providerRedirectsMax is how far the provider may send us on.
	providerRedirectsMax = 5
)

// A provider is the key set that an identity provider serves.
//
// Fetches belong to nobody's request: whoever needs one waits for it, and one
// that goes away leaves it to the others.
type provider struct {
	url    string
	client *http.Client
	now    func() time.Time
	logger *slog.Logger
	life   context.Context // ends with close
	end    context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	keys     Keys                // of fetch number good
	begun    uint64              // how many fetches were begun
	good     uint64              // the number of the last one that brought keys; 0: none has
	underWay chan struct{}       // closed at the end of a fetch; nil when there is none
	next     time.Time           // before then no unknown key causes a fetch
	met      map[[32]byte]uint64 // unknown keys: how many fetches had begun when they were met
}

// newProvider returns a provider whose keys have been fetched, if that could be
// done at once.
func newProvider(url string, now func() time.Time, logger *slog.Logger) *provider {
	p := &provider{url: url, now: now, logger: logger, met: map[[32]byte]uint64{}}
	p.client = &http.Client{CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > providerRedirectsMax {
			return errors.New("too many redirects")
		}
		return checkJWKSURL(r.URL.String())
	}}
	p.life, p.end = context.WithCancel(context.Background())
	<-p.start()
	p.mu.Lock()
	p.next = time.Time{} // this fetch was for no token
	p.mu.Unlock()
	p.work.Go(p.keepFresh)
	return p
}

// close ends the fetching of keys.
func (p *provider) close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.work.Wait()
}

func (p *provider) keepFresh() {
	for {
		wait := providerEvery
		if !p.reached() {
			wait = providerRetryEvery
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.life.Done():
			timer.Stop()
			return
		case <-timer.C:
			<-p.start()
		}
	}
}

// current returns the keys, nil when none have ever been fetched.
func (p *provider) current() Keys {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

// reached reports whether the last fetch brought keys.
func (p *provider) reached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good == p.begun
}

// refresh is called for a token that none of the keys has signed, with a name of
// the key it wants. It waits for a fetch, if one is under way or may be begun. It
// reports whether the keys that are there now were asked for after the name was
// met: if so, the key is none of the provider's.
//
// A name, not a token: of the many tokens of a key that has been dropped each
// would else have to meet a fetch of its own before it is told so.
func (p *provider) refresh(ctx context.Context, name [32]byte) bool {
	p.mu.Lock()
	met, ok := p.met[name]
	done := p.underWay
	mayAsk := done == nil && !p.now().Before(p.next)
	if !ok || mayAsk {
		if len(p.met) >= providerMetMax {
			clear(p.met)
		}
		met = p.begun
		p.met[name] = met
	}
	if mayAsk {
		done = p.startLocked()
	}
	fresh := p.good > met
	p.mu.Unlock()
	if fresh || done == nil {
		return fresh
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good > met
}

// pending says that a token cannot be judged now.
func (p *provider) pending() error {
	if p.current() == nil {
		return &Error{NoKeys}
	}
	return &Error{KeyPending}
}

// start begins a fetch, unless one is under way, and returns its end.
func (p *provider) start() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.underWay != nil {
		return p.underWay
	}
	return p.startLocked()
}

func (p *provider) startLocked() chan struct{} {
	done := make(chan struct{})
	if p.life.Err() != nil {
		close(done)
		return done
	}
	p.begun++
	number := p.begun
	p.underWay = done
	p.work.Go(func() {
		keys, err := p.ask()
		if err != nil {
			p.logger.Warn("keys of the identity provider were not fetched", "url", p.url, "err", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next = p.now().Add(providerFailedEvery)
		if err == nil {
			p.keys, p.good = keys, number
			p.next = p.now().Add(providerUnknownEvery)
		}
		p.underWay = nil
		close(done)
	})
	return done
}

// ask asks the provider for its keys. A key that cannot verify tokens is left
// out, and so is a secret, which nobody publishes on purpose.
func (p *provider) ask() (Keys, error) {
	ctx, cancel := context.WithTimeout(p.life, providerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	var set jwkset.JWKSMarshal
	if err := json.NewDecoder(io.LimitReader(res.Body, providerBytesMax)).Decode(&set); err != nil {
		return nil, fmt.Errorf("not a JWK Set in JSON: %w", err)
	}
	keys := Keys{}
	for _, m := range set.Keys {
		jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		k, err := newKey(jwk)
		if err != nil {
			continue
		}
		if _, secret := k.verify.([]byte); secret {
			continue
		}
		k.foreign = true
		keys = append(keys, k)
	}
	return keys, nil
}
