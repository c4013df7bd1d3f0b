package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// A Key verifies tokens, and signs them if it is private. It is immutable.
type Key struct {
	id      string
	algs    []string // that the key may be used with, the one it signs with first
	verify  any      // what golang-jwt verifies with
	sign    any      // what golang-jwt signs with, nil of a public key
	jwk     jwkset.JWK
	foreign bool // of an identity provider
}

// ID returns the name by which tokens refer to the key, their header kid.
func (k *Key) ID() string { return k.id }

// Algorithm returns the algorithm that the key signs with.
func (k *Key) Algorithm() string { return k.algs[0] }

// CanSign reports whether the key can sign.
func (k *Key) CanSign() bool { return k.sign != nil }

// The least strength of a key, as RFC 7518 asks.
const (
	secretBytesMin = 32
	rsaBitsMin     = 2048
)

var errKeyWeak = errors.New("key is too short")

// newKey makes a key of a JWK, whose own alg narrows what its type allows.
func newKey(jwk jwkset.JWK) (*Key, error) {
	m := jwk.Marshal()
	if m.USE != "" && m.USE != jwkset.UseSig {
		return nil, fmt.Errorf("key %q: its use is %q, want sig", m.KID, m.USE)
	}
	k := &Key{id: m.KID, jwk: jwk}
	if err := k.setMaterial(jwk.Key()); err != nil {
		return nil, fmt.Errorf("key %q: %w", m.KID, err)
	}
	if alg := m.ALG.String(); alg != "" {
		if !slices.Contains(k.algs, alg) {
			return nil, fmt.Errorf("key %q: algorithm %q does not fit its type", m.KID, alg)
		}
		k.algs = []string{alg}
	}
	return k, nil
}

func (k *Key) setMaterial(material any) error {
	if signer, ok := material.(crypto.Signer); ok {
		k.sign, material = signer, signer.Public()
	}
	k.verify = material
	switch pub := material.(type) {
	case ed25519.PublicKey:
		k.algs = []string{jwt.SigningMethodEdDSA.Alg()}
	case *ecdsa.PublicKey:
		k.algs = []string{map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[pub.Curve.Params().BitSize]}
	case *rsa.PublicKey:
		if pub.N.BitLen() < rsaBitsMin {
			return fmt.Errorf("%w: %d bits, want %d", errKeyWeak, pub.N.BitLen(), rsaBitsMin)
		}
		k.algs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case []byte:
		if len(pub) < secretBytesMin {
			return fmt.Errorf("%w: %d bytes, want %d", errKeyWeak, len(pub), secretBytesMin)
		}
		k.sign = pub
		k.algs = []string{"HS256", "HS384", "HS512"}
	default:
		return fmt.Errorf("a key of type %T cannot verify tokens", material)
	}
	return nil
}

// Keys are keys in the order of their making: the newest is the last.
type Keys []*Key

// Signer returns the newest key that can sign, nil when there is none.
func (ks Keys) Signer() *Key {
	for _, k := range slices.Backward(ks) {
		if k.CanSign() {
			return k
		}
	}
	return nil
}

// choose returns the keys that a token with this kid and algorithm may be signed
// by; without a kid any that fits. The error says whether none has the name, or
// one has it and another algorithm.
func (ks Keys) choose(kid, alg string) (Keys, error) {
	var found Keys
	why := UnknownKey
	for _, k := range ks {
		if kid != "" && k.id != kid {
			continue
		}
		why = Algorithm
		if slices.Contains(k.algs, alg) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		return nil, &Error{why}
	}
	return found, nil
}
