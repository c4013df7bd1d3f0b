package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/dalvdb/dalvdb/events"
)

// ErrNoSigner is returned by Sign when none of the keys can sign.
var ErrNoSigner = errors.New("no key that can sign")

// ownIssuer is the claim iss of the tokens that Sign makes. Theirs name the user in
// sub, whatever claim the tokens of an application do it in.
const ownIssuer = "dalvdb"

// Sign makes a token for who, good from now until who.Expires. It signs with
// the newest key.
func (ks Keys) Sign(who Identity, now time.Time) (string, error) {
	key := ks.Signer()
	if key == nil {
		return "", ErrNoSigner
	}
	subject := who.Service
	if who.Role == Device {
		subject = string(who.User)
	}
	if !possible(who) {
		return "", fmt.Errorf("subject of %d bytes, actor of %d bytes: %w", len(subject), len(who.Actor), &Error{BadSubject})
	}
	if !who.Expires.After(now) {
		return "", fmt.Errorf("token would end before it begins: %w", &Error{Expired})
	}
	claims := jwt.MapClaims{
		"iss": ownIssuer,
		"sub": subject,
		"aud": who.Role.audience(),
		"iat": now.Unix(),
		"exp": who.Expires.Unix(),
		"jti": uuid.NewString(),
	}
	if who.ReadOnly {
		claims["scope"] = ScopeReadOnly
	}
	if who.Actor != "" {
		claims["act"] = map[string]any{"sub": who.Actor}
	}
	token := jwt.NewWithClaims(jwt.GetSigningMethod(key.Algorithm()), claims)
	token.Header["kid"] = key.ID()
	signed, err := token.SignedString(key.sign)
	if err == nil && len(signed) > events.TokenBytesMax {
		err = &Error{TooLong}
	}
	return signed, err
}
