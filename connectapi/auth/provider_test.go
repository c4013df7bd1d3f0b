package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// idp is an identity provider whose keys tests change.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []jwkset.JWKMarshal
	down    bool
	fetches int
	gate    chan struct{} // if not nil, each fetch waits for one of these
}

func newIDP(t *testing.T, keys ...*Key) *idp {
	t.Helper()
	p := &idp{}
	p.serve(keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.fetches++
		gate := p.gate
		p.mu.Unlock()
		if gate != nil {
			<-gate
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(jwkset.JWKSMarshal{Keys: p.keys})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) serve(keys ...*Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = nil
	for _, k := range keys {
		p.keys = append(p.keys, k.jwk.Marshal())
	}
}

func (p *idp) fail(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *idp) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// publicOf returns the public half of a key, under its name.
func publicOf(t *testing.T, k *Key) *Key {
	t.Helper()
	return keyOf(t, k.ID(), k.verify.(ed25519.PublicKey))
}

const issuer = "https://idp.example"

func signed(t *testing.T, k *Key, changes ...func(jwt.MapClaims)) string {
	t.Helper()
	changes = append([]func(jwt.MapClaims){set("iss", issuer)}, changes...)
	return forge(t, jwt.SigningMethodEdDSA, k.sign, map[string]any{"kid": k.ID()}, claims(changes...))
}

func TestProviderTokens(t *testing.T) {
	theirs, own, strange := newTestKey(t), newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, theirs))
	v := newTestVerifier(t, Config{Keys: Keys{own}, JWKSURL: p.URL, Issuer: issuer})

	who, err := v.Verify(t.Context(), signed(t, theirs), Device)
	if err != nil || who.User != "ann" {
		t.Fatalf("got %+v, %v", who, err)
	}
	_, err = v.Verify(t.Context(), signed(t, theirs, set("iss", "https://other.example")), Device)
	wantReason(t, err, WrongIssuer)
	_, err = v.Verify(t.Context(), signed(t, theirs, set("iss", nil)), Device)
	wantReason(t, err, WrongIssuer)
	_, err = v.Verify(t.Context(), signed(t, strange), Device)
	wantReason(t, err, UnknownKey)
	// Our own key needs no issuer.
	if _, err := v.Verify(t.Context(), signed(t, own, set("iss", nil)), Device); err != nil {
		t.Error(err)
	}
	// Nor does a name of the provider's make a token of ours foreign.
	_, err = v.Verify(t.Context(), forge(t, jwt.SigningMethodEdDSA, own.sign, map[string]any{"kid": theirs.ID()}, claims()), Device)
	wantReason(t, err, Signature)
}

// A key that the provider has begun to use is fetched when it is first met, and
// forged names cannot make us ask again and again.
func TestProviderRotates(t *testing.T) {
	first, second := newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, first))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer})
	p.serve(publicOf(t, first), publicOf(t, second))
	if _, err := v.Verify(t.Context(), signed(t, second), Device); err != nil {
		t.Fatal(err)
	}
	// One of a name that has just been asked for is told so; others have to come
	// back.
	before := p.fetched()
	for range 20 {
		begin := time.Now()
		_, err := v.Verify(t.Context(), signed(t, newTestKey(t)), Device)
		wantReason(t, err, KeyPending)
		if time.Since(begin) > providerUnknownEvery/2 {
			t.Fatal("a forged token waited for the limiter")
		}
	}
	if got := p.fetched() - before; got > 1 {
		t.Errorf("%d fetches for forged tokens", got)
	}
}

// A key that the provider has dropped, or never had, is told from one that is
// not known yet: by the next fetch, whoever causes it.
func TestUnknownKeyIsToldInTheEnd(t *testing.T) {
	c := &clock{now}
	dropped, other, third := newTestKey(t), newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, newTestKey(t)))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer, Now: c.now})
	verify := func(k *Key, want Reason) {
		t.Helper()
		_, err := v.Verify(t.Context(), signed(t, k), Device)
		wantReason(t, err, want)
	}
	verify(other, UnknownKey) // asked for
	verify(dropped, KeyPending)
	verify(other, UnknownKey)
	c.t = c.t.Add(providerUnknownEvery)
	verify(third, UnknownKey)
	verify(dropped, UnknownKey)
	// And it may come back.
	p.serve(publicOf(t, dropped))
	c.t = c.t.Add(providerUnknownEvery)
	if _, err := v.Verify(t.Context(), signed(t, dropped), Device); err != nil {
		t.Error(err)
	}
}

// A token that was verified is remembered: it is good until it expires although
// its provider has dropped the key, with which another one is not verified any
// more.
func TestRememberedTokenOutlivesItsKey(t *testing.T) {
	c := &clock{now}
	dropped, kept := newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, dropped), publicOf(t, kept))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer, Now: c.now})
	verify := func(token string, want Reason) {
		t.Helper()
		who, err := v.Verify(t.Context(), token, Device)
		switch {
		case want != "":
			wantReason(t, err, want)
		case err != nil || who.User != "ann":
			t.Errorf("got %+v, %v", who, err)
		}
	}
	token := func(id string) string { return signed(t, dropped, set("jti", id)) }
	first, second, third := token("1"), token("2"), token("3")
	verify(first, "")
	p.serve(publicOf(t, kept))
	c.t = c.t.Add(providerUnknownEvery)
	verify(second, "") // the key is good as long as the keys are not fetched again
	verify(signed(t, newTestKey(t)), UnknownKey)
	c.t = c.t.Add(providerUnknownEvery)
	verify(third, UnknownKey)

	fetched := p.fetched()
	verify(first, "")
	c.t = now.Add(time.Hour - time.Nanosecond)
	verify(first, "")
	if p.fetched() != fetched {
		t.Error("the provider was asked for a token that is remembered")
	}
	c.t = now.Add(time.Hour)
	verify(first, Expired)
}

// All who bring a token of a new key wait for the same fetch, and who goes away
// does not take it along.
func TestProviderIsAskedOnceForAll(t *testing.T) {
	first, second := newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, first))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer})
	before := p.fetched()
	p.serve(publicOf(t, first), publicOf(t, second))
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()

	gone, leave := context.WithCancel(t.Context())
	left := make(chan error)
	forged := signed(t, newTestKey(t))
	go func() {
		_, err := v.Verify(gone, forged, Device)
		left <- err
	}()
	for p.fetched() == before {
		runtime.Gosched()
	}
	leave()
	wantReason(t, <-left, KeyPending)

	const herd = 20
	errs := make(chan error, herd)
	var waiting sync.WaitGroup
	for i := range herd {
		tok := signed(t, second, set("sub", fmt.Sprintf("user-%d", i)))
		waiting.Go(func() {
			_, err := v.Verify(t.Context(), tok, Device)
			errs <- err
		})
	}
	close(gate)
	waiting.Wait()
	for range herd {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := p.fetched() - before; got != 1 {
		t.Errorf("%d fetches", got)
	}
}

// A provider that fails just when it rotates makes good tokens wait, and is soon
// asked again.
func TestProviderFailsAtRotation(t *testing.T) {
	c := &clock{now}
	first, second := newTestKey(t), newTestKey(t)
	p := newIDP(t, publicOf(t, first))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer, Now: c.now})
	p.serve(publicOf(t, first), publicOf(t, second))
	p.fail(true)
	_, err := v.Verify(t.Context(), signed(t, second), Device)
	wantReason(t, err, KeyPending)
	if _, err := v.Verify(t.Context(), signed(t, first), Device); err != nil {
		t.Errorf("the keys that are there: %v", err)
	}
	p.fail(false)
	_, err = v.Verify(t.Context(), signed(t, second), Device)
	wantReason(t, err, KeyPending)
	c.t = c.t.Add(providerFailedEvery)
	if _, err := v.Verify(t.Context(), signed(t, second), Device); err != nil {
		t.Error(err)
	}
}

// Tokens that do not name their key are tried with ours and with the provider's,
// which is asked for new ones for them too.
func TestProviderTokensWithoutName(t *testing.T) {
	c := &clock{now}
	own, first, second := newTestKey(t), newTestKey(t), newTestKey(t)
	nameless := func(k *Key, iss any) string {
		return forge(t, jwt.SigningMethodEdDSA, k.sign, nil, claims(set("iss", iss)))
	}
	for name, keys := range map[string]Keys{"with a key of ours": {own}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			p.fail(true)
			v := newTestVerifier(t, Config{Keys: keys, JWKSURL: p.URL, Issuer: issuer, Now: c.now})
			verify := func(tok string, want Reason) {
				t.Helper()
				_, err := v.Verify(t.Context(), tok, Device)
				if want != "" {
					wantReason(t, err, want)
				} else if err != nil {
					t.Error(err)
				}
			}
			verify(nameless(first, issuer), NoKeys)
			p.serve(publicOf(t, first))
			p.fail(false)
			c.t = c.t.Add(providerUnknownEvery)
			verify(nameless(first, issuer), "")
			verify(nameless(first, nil), WrongIssuer)
			p.serve(publicOf(t, first), publicOf(t, second))
			verify(nameless(second, issuer), KeyPending)
			c.t = c.t.Add(providerUnknownEvery)
			verify(nameless(second, issuer), "")
			c.t = c.t.Add(providerUnknownEvery)
			verify(nameless(newTestKey(t), issuer), Signature)
			if keys != nil {
				verify(nameless(own, nil), "")
			}
		})
	}
}

// The provider may send us on, but not to where anyone on the way could answer.
func TestProviderRedirects(t *testing.T) {
	theirs := newTestKey(t)
	p := newIDP(t, publicOf(t, theirs))
	for to, want := range map[string]Reason{p.URL: "", "http://idp.example/keys": NoKeys} {
		from := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
		v := newTestVerifier(t, Config{JWKSURL: from.URL, Issuer: issuer})
		_, err := v.Verify(t.Context(), signed(t, theirs), Device)
		if want != "" || err != nil {
			wantReason(t, err, want)
		}
		from.Close()
	}
}

// As long as the provider has not been reached its tokens cannot be told from
// forged ones; that is another error than a token that is not good.
func TestProviderIsDown(t *testing.T) {
	theirs := newTestKey(t)
	p := newIDP(t, publicOf(t, theirs))
	p.fail(true)
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer})
	_, err := v.Verify(t.Context(), signed(t, theirs), Device)
	wantReason(t, err, NoKeys)
	var own *Error
	if !errors.As(err, &own) || !own.Temporary() {
		t.Error("not temporary")
	}
}

// A provider that publishes a secret would let anyone sign.
func TestProviderSecretsAreIgnored(t *testing.T) {
	secret := keyOf(t, "s", []byte("0123456789abcdef0123456789abcdef"))
	p := newIDP(t, secret, publicOf(t, newTestKey(t)))
	v := newTestVerifier(t, Config{JWKSURL: p.URL, Issuer: issuer})
	tok := forge(t, jwt.SigningMethodHS256, secret.sign, map[string]any{"kid": "s"}, claims(set("iss", issuer)))
	_, err := v.Verify(t.Context(), tok, Device)
	wantReason(t, err, UnknownKey)
}
