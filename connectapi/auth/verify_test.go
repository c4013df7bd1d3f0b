package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/dalvdb/dalvdb/events"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newTestKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyOf makes a key of any material under a name.
func keyOf(t testing.TB, kid string, material any) *Key {
	t.Helper()
	jwk, err := jwkset.NewJWKFromKey(material, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{KID: kid, USE: jwkset.UseSig},
	})
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKey(jwk)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newTestVerifier(t testing.TB, cfg Config) *Verifier {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = (&clock{now}).now
	}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// forge signs any header and claims.
func forge(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, claims)
	for k, v := range header {
		tok.Header[k] = v
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claims returns those of a good device token, changed.
func claims(change ...func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "ann", "aud": AudienceDevice, "exp": now.Add(time.Hour).Unix()}
	for _, f := range change {
		f(c)
	}
	return c
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) {
		if value == nil {
			delete(c, name)
			return
		}
		c[name] = value
	}
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Errorf("got %v, want reason %q", err, want)
	}
	if want != "" && e != nil && e.Error() == "" {
		t.Errorf("reason %q has no text", want)
	}
}

func TestSignedTokensAreVerified(t *testing.T) {
	for name, k := range signers(t) {
		t.Run(name, func(t *testing.T) {
			v := newTestVerifier(t, Config{Keys: Keys{k}})
			for _, want := range []Identity{
				{Role: Device, User: "ann", Expires: now.Add(time.Hour)},
				{Role: Device, User: "ann", Actor: "support/7", Expires: now.Add(time.Second)},
				{Role: Backend, Service: "billing", Expires: now.Add(time.Hour)},
				{Role: Backend, Service: "billing", ReadOnly: true, Expires: now.Add(time.Hour)},
			} {
				tok, err := Keys{k}.Sign(want, now)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // the second time from memory
					got, err := v.Verify(t.Context(), tok, want.Role)
					if err != nil {
						t.Fatal(err)
					}
					if !got.Expires.Equal(want.Expires) {
						t.Errorf("expires %v, want %v", got.Expires, want.Expires)
					}
					got.Expires = want.Expires
					if got != want {
						t.Errorf("got %+v, want %+v", got, want)
					}
				}
			}
		})
	}
}

// signers returns a private key of every kind.
func signers(t testing.TB) map[string]*Key {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Key{"Ed25519": newTestKey(t), "RSA": keyOf(t, "r", rsaKey), "HMAC": keyOf(t, "h", make([]byte, 32))}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = keyOf(t, name, k)
	}
	return out
}

// What is wrong with a token is told apart, and none of these opens anything.
func TestTokensThatAreNotGood(t *testing.T) {
	key := newTestKey(t)
	other := newTestKey(t)
	ed := key.sign.(ed25519.PrivateKey)
	kid := map[string]any{"kid": key.ID()}
	edDSA := jwt.SigningMethodEdDSA
	good := forge(t, edDSA, ed, kid, claims())
	public := []byte(key.verify.(ed25519.PublicKey))

	v := newTestVerifier(t, Config{Keys: Keys{key}})
	if _, err := v.Verify(t.Context(), good, Device); err != nil {
		t.Fatalf("the token that the others differ from is not good: %v", err)
	}
	for _, tt := range []struct {
		name  string
		token string
		want  Reason
	}{
		{"none at all", "", Missing},
		{"too long", strings.Repeat("a", events.TokenBytesMax+1), TooLong},
		{"as long as allowed", strings.Repeat("a", events.TokenBytesMax), Malformed},
		{"not a token", "hello", Malformed},
		{"four parts", good + ".x", Malformed},
		{"signature cut off", good[:strings.LastIndex(good, ".")+1], Signature},
		{"signature of another token", swapClaims(good, forge(t, edDSA, ed, kid, claims(set("sub", "bob")))), Signature},
		{"another's key", forge(t, edDSA, other.sign, map[string]any{"kid": other.ID()}, claims()), UnknownKey},
		{"another's key under our name", forge(t, edDSA, other.sign, kid, claims()), Signature},
		{"another's key without a name", forge(t, edDSA, other.sign, nil, claims()), Signature},
		{"alg none", forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, claims()), Algorithm},
		{"alg none without a name", forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, claims()), Algorithm},
		{"our public key as a secret", forge(t, jwt.SigningMethodHS256, public, kid, claims()), Algorithm},
		{"alg unheard of", withHeader(t, good, map[string]any{"alg": "XY1", "kid": key.ID()}), Algorithm},
		{"alg missing", withHeader(t, good, map[string]any{"kid": key.ID()}), Algorithm},
		{"critical header", forge(t, edDSA, ed, map[string]any{"kid": key.ID(), "crit": []string{"b64"}, "b64": false}, claims()), Malformed},
		{"expired", forge(t, edDSA, ed, kid, claims(set("exp", now.Unix()))), Expired},
		{"expired long ago", forge(t, edDSA, ed, kid, claims(set("exp", 1))), Expired},
		{"no expiry", forge(t, edDSA, ed, kid, claims(set("exp", nil))), NoExpiry},
		{"expiry of text", forge(t, edDSA, ed, kid, claims(set("exp", "never"))), Malformed},
		{"not yet", forge(t, edDSA, ed, kid, claims(set("nbf", now.Add(clockSkew+time.Second).Unix()))), NotYetValid},
		{"for backends", forge(t, edDSA, ed, kid, claims(set("aud", AudienceBackend))), WrongAud},
		{"for nobody", forge(t, edDSA, ed, kid, claims(set("aud", nil))), WrongAud},
		{"audience that begins alike", forge(t, edDSA, ed, kid, claims(set("aud", AudienceDevice+"s"))), WrongAud},
		{"audience of numbers", forge(t, edDSA, ed, kid, claims(set("aud", 7))), WrongAud},
		{"no subject", forge(t, edDSA, ed, kid, claims(set("sub", nil))), BadSubject},
		{"empty subject", forge(t, edDSA, ed, kid, claims(set("sub", ""))), BadSubject},
		{"subject of numbers", forge(t, edDSA, ed, kid, claims(set("sub", 7))), BadSubject},
		{"subject too long", forge(t, edDSA, ed, kid, claims(set("sub", strings.Repeat("u", events.UserBytesMax+1)))), BadSubject},
		{"actor too long", forge(t, edDSA, ed, kid, claims(set("act", map[string]any{"sub": strings.Repeat("a", events.ActorBytesMax+1)}))), BadSubject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), tt.token, Device)
			wantReason(t, err, tt.want)
		})
	}
}

// swapClaims gives a token the claims of another, and keeps its signature.
func swapClaims(token, from string) string {
	a, b := strings.Split(token, "."), strings.Split(from, ".")
	return a[0] + "." + b[1] + "." + a[2]
}

func withHeader(t *testing.T, token string, header map[string]any) string {
	t.Helper()
	b, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(token, ".")
	return base64.RawURLEncoding.EncodeToString(b) + "." + rest
}

// What stands just inside is let in.
func TestTokensAtTheEdge(t *testing.T) {
	key := newTestKey(t)
	v := newTestVerifier(t, Config{Keys: Keys{key}})
	for name, c := range map[string]jwt.MapClaims{
		"one second left":        claims(set("exp", now.Unix()+1)),
		"clock ahead of ours":    claims(set("nbf", now.Add(clockSkew).Unix())),
		"one audience of many":   claims(set("aud", []string{"x", AudienceDevice})),
		"longest user":           claims(set("sub", strings.Repeat("u", events.UserBytesMax))),
		"claims we do not know":  claims(set("email", "a@example.com"), set("act", "odd")),
		"a scope of other words": claims(set("scope", "openid "+ScopeReadOnly+"s")),
		"a list of other words":  claims(set("scope", []string{"openid", ScopeReadOnly + "s"})),
	} {
		who, err := v.Verify(t.Context(), forge(t, jwt.SigningMethodEdDSA, key.sign, nil, c), Device)
		if err != nil || who.ReadOnly {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
}

// A scope makes a token read-only in each of the forms that providers write it
// in; one that cannot be read opens nothing.
func TestScope(t *testing.T) {
	key := newTestKey(t)
	v := newTestVerifier(t, Config{Keys: Keys{key}})
	verify := func(scope any) (Identity, error) {
		return v.Verify(t.Context(), forge(t, jwt.SigningMethodEdDSA, key.sign, nil, claims(set("aud", AudienceBackend), set("scope", scope))), Backend)
	}
	for _, scope := range []any{ScopeReadOnly, "openid " + ScopeReadOnly, []string{"openid", ScopeReadOnly}, []string{"openid " + ScopeReadOnly}} {
		if who, err := verify(scope); err != nil || !who.ReadOnly {
			t.Errorf("%v: %+v, %v", scope, who, err)
		}
	}
	for _, scope := range []any{7, true, map[string]any{"read": ScopeReadOnly}, []any{ScopeReadOnly, 7}} {
		_, err := verify(scope)
		wantReason(t, err, Malformed)
	}
}

// A token for one service does not open the other, also when it is remembered.
func TestRolesAreApart(t *testing.T) {
	key := newTestKey(t)
	v := newTestVerifier(t, Config{Keys: Keys{key}})
	device, _ := Keys{key}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
	backend, _ := Keys{key}.Sign(Identity{Role: Backend, Service: "billing", Expires: now.Add(time.Hour)}, now)
	for range 2 {
		if _, err := v.Verify(t.Context(), device, Device); err != nil {
			t.Fatal(err)
		}
		_, err := v.Verify(t.Context(), device, Backend)
		wantReason(t, err, WrongAud)
		_, err = v.Verify(t.Context(), backend, Device)
		wantReason(t, err, WrongAud)
	}
}

// A remembered token ends when it expires, not when it is forgotten.
func TestRememberedTokenExpires(t *testing.T) {
	key := newTestKey(t)
	c := &clock{now}
	v := newTestVerifier(t, Config{Keys: Keys{key}, Now: c.now})
	tok, _ := Keys{key}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Minute)}, now)
	if _, err := v.Verify(t.Context(), tok, Device); err != nil {
		t.Fatal(err)
	}
	c.t = now.Add(time.Minute - time.Nanosecond)
	if _, err := v.Verify(t.Context(), tok, Device); err != nil {
		t.Fatal(err)
	}
	c.t = now.Add(time.Minute)
	for range 2 {
		_, err := v.Verify(t.Context(), tok, Device)
		wantReason(t, err, Expired)
	}
}

// Keys are replaced while the node runs: a new one verifies, and what one that
// has gone had signed is refused, remembered or not.
func TestReplacedKeys(t *testing.T) {
	first, second := newTestKey(t), newTestKey(t)
	v := newTestVerifier(t, Config{Keys: Keys{first}})
	who := Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}
	old, _ := Keys{first}.Sign(who, now)
	fresh, _ := Keys{second}.Sign(who, now)
	verify := func(token string, want Reason) {
		t.Helper()
		_, err := v.Verify(t.Context(), token, Device)
		if want != "" {
			wantReason(t, err, want)
		} else if err != nil {
			t.Error(err)
		}
	}
	verify(old, "")
	verify(fresh, UnknownKey)
	if err := v.SetKeys(Keys{first, second}); err != nil {
		t.Fatal(err)
	}
	verify(old, "")
	verify(fresh, "")
	if err := v.SetKeys(Keys{second}); err != nil {
		t.Fatal(err)
	}
	verify(old, UnknownKey)
	verify(fresh, "")
	if err := v.SetKeys(nil); err == nil {
		t.Error("no keys at all are accepted")
	}
	verify(fresh, "")
}

// Rotation: the newest key signs, the older ones still verify.
func TestNewestKeySigns(t *testing.T) {
	first, second := newTestKey(t), newTestKey(t)
	public := keyOf(t, "public", second.verify.(ed25519.PublicKey))
	keys := Keys{first, second, public}
	if got := keys.Signer(); got != second {
		t.Fatalf("%s signs, want %s", got.ID(), second.ID())
	}
	v := newTestVerifier(t, Config{Keys: keys})
	for _, signer := range (Keys{first, second}) {
		tok, err := Keys{signer}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), tok, Device); err != nil {
			t.Error(err)
		}
	}
	if _, err := (Keys{public}).Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now); !errors.Is(err, ErrNoSigner) {
		t.Errorf("got %v, want ErrNoSigner", err)
	}
}

func TestUserClaimAndAudience(t *testing.T) {
	key := newTestKey(t)
	v := newTestVerifier(t, Config{Keys: Keys{key}, UserClaim: "uid", Audience: "shop"})
	tok := forge(t, jwt.SigningMethodEdDSA, key.sign, nil, claims(set("uid", "u-1"), set("aud", "shop")))
	who, err := v.Verify(t.Context(), tok, Device)
	if err != nil || who.User != "u-1" {
		t.Fatalf("got %+v, %v", who, err)
	}
	// The application's audience is for devices.
	_, err = v.Verify(t.Context(), tok, Backend)
	wantReason(t, err, WrongAud)
	_, err = v.Verify(t.Context(), forge(t, jwt.SigningMethodEdDSA, key.sign, nil, claims(set("uid", "u-1"), set("aud", "shops"))), Device)
	wantReason(t, err, WrongAud)
	// The claim that names the user is the configured one and no other.
	_, err = v.Verify(t.Context(), forge(t, jwt.SigningMethodEdDSA, key.sign, nil, claims()), Device)
	wantReason(t, err, BadSubject)
	// Tokens that we sign ourselves are good whatever the claim is.
	own, err := (Keys{key}).Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := v.Verify(t.Context(), own, Device); err != nil || who.User != "ann" {
		t.Fatalf("got %+v, %v", who, err)
	}
}

func TestSignRefuses(t *testing.T) {
	keys := Keys{newTestKey(t)}
	for _, tt := range []struct {
		who  Identity
		want Reason
	}{
		{Identity{Role: Device, Expires: now.Add(time.Hour)}, BadSubject},
		{Identity{User: "ann", Expires: now.Add(time.Hour)}, BadSubject},
		{Identity{Role: Backend, Service: strings.Repeat("s", events.NameBytesMax+1), Expires: now.Add(time.Hour)}, BadSubject},
		{Identity{Role: Device, User: "\xff", Expires: now.Add(time.Hour)}, BadSubject},
		{Identity{Role: Device, User: "ann", Expires: now}, Expired},
	} {
		_, err := keys.Sign(tt.who, now)
		wantReason(t, err, tt.want)
	}
}

// A key that is not known may have been added a moment ago: it is asked for, and
// only then. What the file of the keys no longer has stays refused.
func TestUnknownKeysAreAskedFor(t *testing.T) {
	first, second, never := newTestKey(t), newTestKey(t), newTestKey(t)
	var v *Verifier
	asked := 0
	v = newTestVerifier(t, Config{Keys: Keys{first}, OnUnknownKey: func() {
		if asked++; asked == 1 {
			if err := v.SetKeys(Keys{first, second}); err != nil {
				t.Error(err)
			}
		}
	}})
	for i, tt := range []struct {
		key   *Key
		want  Reason
		asked int
	}{{first, "", 0}, {second, "", 1}, {second, "", 1}, {first, "", 1}, {never, UnknownKey, 2}} {
		token, err := Keys{tt.key}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = v.Verify(t.Context(), token, Device); tt.want != "" {
			wantReason(t, err, tt.want)
		} else if err != nil {
			t.Errorf("token %d: %v", i, err)
		}
		if asked != tt.asked {
			t.Errorf("token %d: asked %d times, want %d", i, asked, tt.asked)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	keys := Keys{newTestKey(t)}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no keys"},
		{Config{Keys: keys, Issuer: "i"}, "issuer"},
		{Config{JWKSURL: "https://idp.example/keys"}, "issuer"},
		{Config{JWKSURL: "http://idp.example/keys", Issuer: "i"}, "https"},
		{Config{JWKSURL: "keys", Issuer: "i"}, "absolute"},
	} {
		if err := tt.cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.cfg, err, tt.want)
		}
	}
	for _, cfg := range []Config{{Keys: keys}, {JWKSURL: "https://idp.example/keys", Issuer: "i"}, {JWKSURL: "http://127.0.0.1:1/keys", Issuer: "i"}} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// FuzzVerify: whoever has no key gets no identity, and nothing panics.
func FuzzVerify(f *testing.F) {
	key := newTestKey(f)
	other := newTestKey(f)
	v := newTestVerifier(f, Config{Keys: Keys{key}})
	tok, _ := Keys{other}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
	f.Add(tok)
	f.Add("e30.e30.")
	f.Add(forge(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, claims()))
	f.Fuzz(func(t *testing.T, token string) {
		for _, role := range []Role{Device, Backend} {
			if who, err := v.Verify(context.Background(), token, role); err == nil {
				t.Fatalf("%q opened %+v", token, who)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key := newTestKey(b)
	v := newTestVerifier(b, Config{Keys: Keys{key}})
	tok, _ := Keys{key}.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
	for b.Loop() {
		if _, err := v.Verify(b.Context(), tok, Device); err != nil {
			b.Fatal(err)
		}
	}
}
