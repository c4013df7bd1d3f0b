package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// issuerMain is the issuer of scripts: who gives out tokens where DalvDB does not.
// It knows nothing but the standard library, and nothing of our packages, so that
// a script with it shows what is asked of any tool.
//
//	issuer new NAME...             makes a key in NAME.key, for each
//	issuer public NAME...          prints a JWK Set of their public keys
//	issuer sign NAME CLAIM=JSON... prints a token, good for an hour unless it says exp
func issuerMain() {
	if len(os.Args) < 3 {
		issuerFail("usage: issuer new|public|sign NAME...")
	}
	switch names := os.Args[2:]; os.Args[1] {
	case "new":
		for _, name := range names {
			issuerNew(name)
		}
	case "public":
		var keys []map[string]string
		for _, name := range names {
			keys = append(keys, issuerPublic(name))
		}
		fmt.Fprintln(os.Stdout, string(issuerJSON(map[string]any{"keys": keys})))
	case "sign":
		fmt.Fprintln(os.Stdout, issuerSign(names[0], names[1:]))
	default:
		issuerFail("issuer %s?", os.Args[1])
	}
}

func issuerFail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

// issuerMust returns what a step gives, and ends the process if it fails.
func issuerMust[T any](v T, err error) T {
	if err != nil {
		issuerFail("issuer: %v", err)
	}
	return v
}

func issuerNew(name string) {
	key := issuerMust(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := issuerMust(x509.MarshalECPrivateKey(key))
	issuerMust(0, os.WriteFile(name+".key", der, 0o600))
}

func issuerKey(name string) *ecdsa.PrivateKey {
	return issuerMust(x509.ParseECPrivateKey(issuerMust(os.ReadFile(name + ".key"))))
}

// issuerPublic returns the public key as RFC 7517 has it.
func issuerPublic(name string) map[string]string {
	point := issuerMust(issuerKey(name).PublicKey.Bytes()) // 4, x, y
	return map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": name,
		"x": issuerText(point[1:33]), "y": issuerText(point[33:]),
	}
}

// issuerSign makes a token as RFC 7519 has it.
func issuerSign(name string, args []string) string {
	claims := map[string]json.RawMessage{"exp": issuerJSON(time.Now().Add(time.Hour).Unix())}
	for _, arg := range args {
		claim, value, _ := strings.Cut(arg, "=")
		claims[claim] = json.RawMessage(value)
	}
	header := map[string]string{"typ": "JWT", "alg": "ES256", "kid": name}
	signed := issuerText(issuerJSON(header)) + "." + issuerText(issuerJSON(claims))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, issuerKey(name), sum[:])
	signature := slices.Concat(issuerMust(r, err).FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
	return signed + "." + issuerText(signature)
}

func issuerJSON(v any) []byte { return issuerMust(json.Marshal(v)) }

func issuerText(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
