package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// identityProvider serves a public key, and returns what signs with it.
func identityProvider(t *testing.T) (url string, sign func(jwt.MapClaims) string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgEdDSA, KID: "theirs", USE: jwkset.UseSig},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
	}))
	t.Cleanup(server.Close)
	return server.URL, func(claims jwt.MapClaims) string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
		token.Header["kid"] = "theirs"
		signed, err := token.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
}

// The flags about whom to trust reach the edge: a device with the token of an
// identity provider, for the application's audience, with the user in a claim
// of its own, from a page of another origin.
func TestIdentityProvider(t *testing.T) {
	url, sign := identityProvider(t)
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.jwksURL, s.issuer, s.audience, s.userClaim = url, "https://id.example/", "shop", "uid"
	s.corsOrigins = []string{"https://app.example"}
	if err := s.validate(); err != nil {
		t.Fatal(err)
	}
	n := newTestNode(t, s)
	web := benchHTTP(1)
	defer func() {
		web.CloseIdleConnections()
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}()
	client := dalvdbv1connect.NewReplicaServiceClient(web, n.deviceURL)
	pull := func(claims jwt.MapClaims) (*connect.Response[dalvdbv1.SyncResponse], error) {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
		req := connect.NewRequest(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"})
		req.Header().Set("Authorization", "Bearer "+sign(claims))
		req.Header().Set("Origin", "https://app.example")
		return client.Sync(t.Context(), req)
	}
	res, err := pull(jwt.MapClaims{"iss": "https://id.example/", "aud": "shop", "uid": "ann", "sub": "17"})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Header().Get("Access-Control-Allow-Origin"); got != "https://app.example" {
		t.Errorf("allowed origin %q", got)
	}
	for name, claims := range map[string]jwt.MapClaims{
		"another issuer":   {"iss": "https://evil.example/", "aud": "shop", "uid": "ann"},
		"another audience": {"iss": "https://id.example/", "aud": "other", "uid": "ann"},
		"no such claim":    {"iss": "https://id.example/", "aud": "shop", "sub": "ann"},
	} {
		if _, err := pull(claims); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pull(jwt.MapClaims{"iss": "https://id.example/", "aud": "shop", "uid": "bob"}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("another user: %v", err)
	}
}
