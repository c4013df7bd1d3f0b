package auth

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCreateAndReadKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	made, err := CreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o, want 0600", info.Mode().Perm())
	}
	read, err := ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := read.Sign(Identity{Role: Device, User: "ann", Expires: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newTestVerifier(t, Config{Keys: made}).Verify(t.Context(), tok, Device); err != nil {
		t.Errorf("what was read signs otherwise than what was made: %v", err)
	}
	// A key file is never replaced, and nothing else is left behind.
	if _, err := CreateKeys(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made again: %v, want fs.ErrExist", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files in the directory, %v", len(entries), err)
	}
}

// Two nodes that start on one directory at the same time end up with one key.
func TestCreateKeysOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var made sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if keys, err := CreateKeys(path); err == nil {
				made.Store(keys[0].ID(), true)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d made a key file, want 1", n)
	}
}

func TestKeyFileModes(t *testing.T) {
	key := newTestKey(t)
	secret, err := Keys{key}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	public, err := Keys{keyOf(t, "p", key.verify.(ed25519.PublicKey))}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		data []byte
		mode os.FileMode
		open bool
	}{
		{secret, 0o600, false},
		{secret, 0o400, false},
		{secret, 0o440, false}, // how orchestrators mount secrets
		{secret, 0o604, true},
		{secret, 0o644, true},
		{secret, 0o620, true},
		{public, 0o644, false}, // nothing to hide
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); errors.Is(err, ErrKeyFileOpen) != tt.open || !tt.open && err != nil {
			t.Errorf("mode %04o: got %v, open %v", tt.mode, err, tt.open)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	key := newTestKey(t)
	data, err := Keys{key}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(k map[string]any)) string {
		var set map[string][]map[string]any
		if err := json.Unmarshal(data, &set); err != nil {
			t.Fatal(err)
		}
		f(set["keys"][0])
		out, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	twice := `{"keys":[` + strings.Repeat(strings.TrimSpace(keyJSON(t, key))+",", 1) + keyJSON(t, key) + `]}`
	for name, tt := range map[string]struct{ data, want string }{
		"not JSON":        {"hello", "JWK Set"},
		"no keys":         {`{"keys":[]}`, "no keys"},
		"no name":         {change(func(k map[string]any) { delete(k, "kid") }), "kid"},
		"the same twice":  {twice, "kid"},
		"for encryption":  {change(func(k map[string]any) { k["use"] = "enc" }), "use"},
		"foreign alg":     {change(func(k map[string]any) { k["alg"] = "RS256" }), "alg"},
		"short secret":    {`{"keys":[{"kty":"oct","kid":"s","k":"c2hvcnQ"}]}`, "too short"},
		"unheard of type": {`{"keys":[{"kty":"XY","kid":"s"}]}`, "keys[0]"},
	} {
		_, err := ParseKeys([]byte(tt.data))
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%s: the error repeats the secret", name)
		}
	}
}

func keyJSON(t *testing.T, k *Key) string {
	t.Helper()
	b, err := json.Marshal(k.jwk.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
