package auth

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
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
}

func newIDP(t *testing.T, keys ...*Key) *idp {
	t.Helper()
	p := &idp{}
	p.serve(keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fetches++
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
	before := p.fetched()
	for range 20 {
		begin := time.Now()
		_, err := v.Verify(t.Context(), signed(t, newTestKey(t)), Device)
		wantReason(t, err, UnknownKey)
		if time.Since(begin) > providerUnknownEvery/2 {
			t.Fatal("a forged token waited for the limiter")
		}
	}
	if got := p.fetched() - before; got > 1 {
		t.Errorf("%d fetches for forged tokens", got)
	}
}

// As long as the provider has not been reached its tokens cannot be told from
// forged ones; that is another error than a token that is not good.
func TestProviderIsDown(t *testing.T) {
	theirs := newTestKey(t)
	p := newIDP(t, publicOf(t, theirs))
	p.down = true
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
