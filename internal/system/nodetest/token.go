package nodetest

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// PaddedToken returns a credential of size bytes, signed as an identity provider
// would that holds the node's key: with claims that mean nothing here, and with
// no regard to what may stand in the others.
func (n *Node) PaddedToken(t testing.TB, who auth.Identity, size int) string {
	t.Helper()
	key, err := privateKey(n.keys)
	must(t, err)
	subject, audience := who.Service, "dalvdb/backend"
	if who.Role == auth.Device {
		subject, audience = string(who.User), "dalvdb/device"
	}
	sign := func(inClaims, inHeader int) string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"sub": subject, "aud": audience, "exp": time.Now().Add(time.Hour).Unix(), "pad": strings.Repeat("x", inClaims),
		})
		token.Header["kid"], token.Header["pad"] = n.keys.Signer().ID(), strings.Repeat("x", inHeader)
		signed, err := token.SignedString(key)
		must(t, err)
		return signed
	}
	// Three bytes become four: not every length can be had in one place.
	near := max(0, (size-len(sign(0, 0)))*3/4-4)
	for inHeader := range 4 {
		for inClaims := near; inClaims < near+8; inClaims++ {
			if signed := sign(inClaims, inHeader); len(signed) == size {
				return signed
			}
		}
	}
	t.Fatalf("no token has %d bytes", size)
	return ""
}

// privateKey reads the newest key out of a key file, as who holds it can.
func privateKey(keys auth.Keys) (ed25519.PrivateKey, error) {
	file, err := keys.Marshal()
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct {
			D string `json:"d"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(file, &set); err != nil {
		return nil, err
	}
	seed, err := base64.RawURLEncoding.DecodeString(set.Keys[len(set.Keys)-1].D)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.Join(errors.New("not a key of Ed25519"), err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
