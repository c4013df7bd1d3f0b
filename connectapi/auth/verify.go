package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/dalvdb/dalvdb/events"
)

// clockSkew is by how much the clock of an identity provider may be ahead of
// ours: nbf may lie that far in the future. An expiry is taken at its word.
const clockSkew = 30 * time.Second

// rememberedMax is how many verified tokens are kept: enough for the devices
// that one node serves at a time, some 30 MB.
const rememberedMax = 100_000

// Config says whom a Verifier trusts.
type Config struct {
	// Keys are trusted for both roles. Keys or JWKSURL is required.
	Keys Keys

	// JWKSURL is where an identity provider serves its public keys, which are
	// trusted for both roles too: https, or http to a loopback address. They are
	// fetched at the start, each hour, and when a token is signed by an unknown
	// key.
	JWKSURL string

	// OnUnknownKey, if not nil, is called when a token names a key that is not
	// known, before it is refused: it may find out whether Keys are still what they
	// should be, and call SetKeys. It must be cheap, because anyone can bring such
	// tokens.
	OnUnknownKey func()

	// Issuer is what the claim iss of tokens of that provider must be. Required
	// with JWKSURL, and of no use without.
	Issuer string

	// Audience is accepted of device tokens besides "dalvdb/device": what an
	// identity provider puts there for the application. Empty is none.
	Audience string

	// UserClaim names the claim of a device token that holds the user. Empty is
	// "sub".
	UserClaim string

	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// Logger is told when the identity provider cannot be reached. nil discards.
	Logger *slog.Logger
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Keys) == 0 && c.JWKSURL == "" {
		errs = append(errs, errors.New("auth: no keys: want a key file or a JWKS URL"))
	}
	if c.JWKSURL != "" {
		errs = append(errs, checkJWKSURL(c.JWKSURL))
	}
	if (c.JWKSURL == "") != (c.Issuer == "") {
		errs = append(errs, errors.New("auth: JWKS URL and issuer go together"))
	}
	return errors.Join(errs...)
}

// checkJWKSURL refuses what would let anyone on the way hand us keys.
func checkJWKSURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return errors.New("auth: JWKS URL: want an absolute URL")
	}
	loopback := slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return errors.New("auth: JWKS URL: want https, or http to a loopback address")
	}
	return nil
}

// A Verifier tells who a token speaks for. All methods may be called by many
// goroutines at once.
type Verifier struct {
	cfg        Config
	parser     *jwt.Parser
	provider   *provider // nil without a JWKS URL
	remembered *otter.Cache[memo, Identity]
	own        atomic.Pointer[ownKeys]
}

// ownKeys are Config.Keys, or what SetKeys put in their place.
type ownKeys struct {
	keys       Keys
	generation uint64 // counts the calls of SetKeys
}

// memo is a token without its secret. What was verified with other keys is not
// found any more.
type memo struct {
	role       Role
	sum        [sha256.Size]byte
	generation uint64
}

// NewVerifier returns a Verifier. With a JWKS URL it waits for the first answer
// of the identity provider, at most providerTimeout, and goes on without: tokens
// of that provider are refused as long as its keys are not there.
func NewVerifier(cfg Config) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	remembered, err := otter.New(&otter.Options[memo, Identity]{MaximumSize: rememberedMax})
	if err != nil {
		return nil, fmt.Errorf("auth: cache: %w", err)
	}
	v := &Verifier{
		cfg: cfg, remembered: remembered,
		parser: jwt.NewParser(jwt.WithTimeFunc(cfg.Now), jwt.WithExpirationRequired(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding()),
	}
	v.own.Store(&ownKeys{keys: cfg.Keys})
	if cfg.JWKSURL != "" {
		v.provider = newProvider(cfg.JWKSURL, cfg.Now, cfg.Logger)
	}
	return v, nil
}

// Close ends the fetching of keys. Verify goes on with those that are there.
func (v *Verifier) Close() {
	if v.provider != nil {
		v.provider.close()
	}
}

// SetKeys puts keys in the place of Config.Keys: a token of a key that is not
// among them is refused from now on, also one that is remembered.
func (v *Verifier) SetKeys(keys Keys) error {
	cfg := v.cfg
	cfg.Keys = keys
	if err := cfg.Validate(); err != nil {
		return err
	}
	for {
		old := v.own.Load()
		if v.own.CompareAndSwap(old, &ownKeys{keys: keys, generation: old.generation + 1}) {
			return nil
		}
	}
}

// Verify returns who a token of this role speaks for, or an *Error. It may wait
// for the identity provider, when the token names a key that is not known yet.
func (v *Verifier) Verify(ctx context.Context, token string, role Role) (Identity, error) {
	if token == "" {
		return Identity{}, &Error{Missing}
	}
	if len(token) > events.TokenBytesMax {
		return Identity{}, &Error{TooLong}
	}
	own := v.own.Load()
	m := memo{role: role, sum: sha256.Sum256([]byte(token)), generation: own.generation}
	if who, ok := v.remembered.GetIfPresent(m); ok {
		if !v.cfg.Now().Before(who.Expires) {
			v.remembered.Invalidate(m)
			return Identity{}, &Error{Expired}
		}
		return who, nil
	}
	who, err := v.verify(ctx, own.keys, token, role)
	if now := v.keysAfter(err, own); now != own {
		m.generation = now.generation
		who, err = v.verify(ctx, now.keys, token, role)
	}
	if err != nil {
		return Identity{}, err
	}
	v.remembered.Set(m, who)
	return who, nil
}

// keysAfter returns the keys to verify with after err: others than before, when
// it says that the token names a key that is neither known as ours nor as one of
// the provider's, and there are others by now.
func (v *Verifier) keysAfter(err error, before *ownKeys) *ownKeys {
	var bad *Error
	if v.cfg.OnUnknownKey == nil || !errors.As(err, &bad) || bad.Reason != UnknownKey && !bad.Temporary() {
		return before
	}
	v.cfg.OnUnknownKey()
	return v.own.Load()
}

func (v *Verifier) verify(ctx context.Context, own Keys, token string, role Role) (Identity, error) {
	nameless := false
	claims, foreign, err := v.check(token, func(kid, alg string) (Keys, error) {
		if nameless = kid == ""; nameless {
			return own.choose(kid, alg)
		}
		return v.keysNamed(ctx, own, kid, alg)
	})
	if err != nil && nameless && v.provider != nil && ofAnotherKey(err) {
		claims, foreign, err = v.checkNameless(ctx, token)
	}
	if err != nil {
		return Identity{}, err
	}
	iss, _ := claims.GetIssuer()
	if foreign && iss != v.cfg.Issuer {
		return Identity{}, &Error{WrongIssuer}
	}
	userClaim := v.cfg.UserClaim
	if !foreign && iss == ownIssuer {
		userClaim = "sub"
	}
	return v.identity(claims, role, userClaim)
}

// check verifies a token with one of the keys that choose returns: ours, or the
// provider's (foreign), never some of both. The header only chooses among them: a
// key is used with an algorithm of its own or not at all.
func (v *Verifier) check(token string, choose func(kid, alg string) (Keys, error)) (claims jwt.MapClaims, foreign bool, err error) {
	claims = jwt.MapClaims{}
	_, err = v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		// A header parameter that must be understood (RFC 7515, section 4.1.11), and
		// none is.
		if _, ok := t.Header["crit"]; ok {
			return nil, &Error{Malformed}
		}
		kid, _ := t.Header["kid"].(string)
		keys, err := choose(kid, t.Method.Alg())
		if err != nil {
			return nil, err
		}
		foreign = keys[0].foreign
		set := jwt.VerificationKeySet{}
		for _, k := range keys {
			set.Keys = append(set.Keys, k.verify)
		}
		return set, nil
	})
	if err != nil {
		return nil, false, reasonOf(err)
	}
	return claims, foreign, nil
}

// keysNamed returns the key of a name: ours, or else the provider's, which is
// asked for it when it is in neither.
func (v *Verifier) keysNamed(ctx context.Context, own Keys, kid, alg string) (Keys, error) {
	found, err := own.choose(kid, alg)
	if err == nil || v.provider == nil {
		return found, err
	}
	theirs, theirErr := v.provider.current().choose(kid, alg)
	switch {
	case theirErr == nil:
		return theirs, nil
	case !isReason(err, UnknownKey):
		return nil, err // it is one of ours, with another algorithm
	case !isReason(theirErr, UnknownKey):
		return nil, theirErr
	}
	fresh := v.provider.refresh(ctx, sha256.Sum256([]byte(kid)))
	theirs, theirErr = v.provider.current().choose(kid, alg)
	if isReason(theirErr, UnknownKey) && !fresh {
		return nil, v.provider.pending()
	}
	return theirs, theirErr
}

// checkNameless verifies a token that does not name its key, and that none of
// ours has signed, with the provider's keys.
func (v *Verifier) checkNameless(ctx context.Context, token string) (jwt.MapClaims, bool, error) {
	choose := func(kid, alg string) (Keys, error) { return v.provider.current().choose(kid, alg) }
	claims, foreign, err := v.check(token, choose)
	if err == nil || !ofAnotherKey(err) {
		return claims, foreign, err
	}
	fresh := v.provider.refresh(ctx, sha256.Sum256([]byte(token)))
	claims, foreign, err = v.check(token, choose)
	if err != nil && ofAnotherKey(err) && !fresh {
		err = v.provider.pending()
	}
	return claims, foreign, err
}

func isReason(err error, reasons ...Reason) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(reasons, e.Reason)
}

// ofAnotherKey reports that a token may be signed by a key that was not tried.
func ofAnotherKey(err error) bool { return isReason(err, UnknownKey, Algorithm, Signature) }

// reasonOf says in our words what golang-jwt found.
func reasonOf(err error) error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, jwt.ErrTokenExpired):
		return &Error{Expired}
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return &Error{NotYetValid}
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return &Error{NoExpiry}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return &Error{Signature}
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return &Error{Algorithm}
	}
	return &Error{Malformed}
}

// identity reads the claims of a token whose signature was good.
func (v *Verifier) identity(claims jwt.MapClaims, role Role, userClaim string) (Identity, error) {
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return Identity{}, &Error{NoExpiry}
	}
	if !v.cfg.Now().Before(exp.Time) { // the parser lets it pass within clockSkew
		return Identity{}, &Error{Expired}
	}
	aud, err := claims.GetAudience()
	if err != nil {
		return Identity{}, &Error{Malformed}
	}
	fits := slices.Contains(aud, role.audience())
	if role == Device && v.cfg.Audience != "" {
		fits = fits || slices.Contains(aud, v.cfg.Audience)
	}
	if !fits {
		return Identity{}, &Error{WrongAud}
	}
	who := Identity{Role: role, Expires: exp.Time}
	if role == Device {
		user, _ := claims[userClaim].(string)
		who.User = events.UserID(user)
	} else {
		who.Service, _ = claims["sub"].(string)
	}
	if act, ok := claims["act"].(map[string]any); ok {
		who.Actor, _ = act["sub"].(string)
	}
	scope, err := scopeOf(claims)
	if err != nil {
		return Identity{}, err
	}
	who.ReadOnly = slices.Contains(scope, ScopeReadOnly)
	if !possible(who) {
		return Identity{}, &Error{BadSubject}
	}
	return who, nil
}

// scopeOf returns the words of the claim scope: a text of them, as RFC 8693 has
// it, or a list, as some identity providers do. What is neither might have said
// that the token must not write.
func scopeOf(claims jwt.MapClaims) ([]string, error) {
	switch scope := claims["scope"].(type) {
	case nil:
		return nil, nil
	case string:
		return strings.Fields(scope), nil
	case []any:
		var words []string
		for _, e := range scope {
			text, ok := e.(string)
			if !ok {
				return nil, &Error{Malformed}
			}
			words = append(words, strings.Fields(text)...)
		}
		return words, nil
	}
	return nil, &Error{Malformed}
}

// possible reports whether an identity can be the writer of an event.
func possible(who Identity) bool {
	if len(who.Actor) > events.ActorBytesMax || !utf8.ValidString(who.Actor) {
		return false
	}
	if who.Role == Device {
		return who.User != "" && len(who.User) <= events.UserBytesMax && utf8.ValidString(string(who.User))
	}
	return who.Role == Backend && who.Service != "" && len(who.Service) <= events.NameBytesMax && utf8.ValidString(who.Service)
}
