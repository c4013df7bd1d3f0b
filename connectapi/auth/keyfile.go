package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/MicahParks/jwkset"
)

// A key file is a JWK Set (RFC 7517) in JSON:
//
//	{"keys": [
//	  {"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"<name>","x":"...","d":"..."}
//	]}
//
// Ed25519, EC, RSA and secret (oct) keys are read, private or, to verify only,
// public. The last key that can sign is the newest: to rotate, a new key is
// added at the end, and the old one taken out when its last token has expired.
//
// A file that holds something secret is refused if users other than owner and
// group can read it, or others than the owner can write it. The group may read,
// because that is how orchestrators hand secrets to a process that is not root.
const (
	keyFileMode  = 0o600
	keyFileNever = 0o027
	keyFileBytes = 1 << 20
)

// ErrKeyFileOpen is returned for a key file that others can read or change. Set
// its mode to 0600.
var ErrKeyFileOpen = errors.New("key file is open to others")

// ReadKeys reads a key file. There must be at least one key.
func ReadKeys(path string) (Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, keyFileBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	keys, err := ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); keys.Signer() != nil && mode&keyFileNever != 0 {
		return nil, fmt.Errorf("%s: %w: mode %04o, want %04o", path, ErrKeyFileOpen, mode, keyFileMode)
	}
	return keys, nil
}

// ParseKeys reads what a key file holds.
func ParseKeys(data []byte) (Keys, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("not a JWK Set in JSON")
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no keys")
	}
	keys := make(Keys, 0, len(set.Keys))
	seen := map[string]bool{}
	for i, m := range set.Keys {
		jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		k, err := newKey(jwk)
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if k.id == "" || seen[k.id] {
			return nil, fmt.Errorf("keys[%d]: kid %q: want a name that no other key has", i, k.id)
		}
		seen[k.id] = true
		keys = append(keys, k)
	}
	return keys, nil
}

// NewKey makes a new Ed25519 key with a random name.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	jwk, err := jwkset.NewJWKFromKey(private, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgEdDSA, KID: hex.EncodeToString(id[:]), USE: jwkset.UseSig},
	})
	if err != nil {
		return nil, err
	}
	return newKey(jwk)
}

// Marshal returns what a key file with these keys holds, secrets included.
func (ks Keys) Marshal() ([]byte, error) {
	var set jwkset.JWKSMarshal
	for _, k := range ks {
		set.Keys = append(set.Keys, k.jwk.Marshal())
	}
	data, err := json.MarshalIndent(set, "", "  ")
	return append(data, '\n'), err
}

// CreateKeys makes a key file with one new key. It never replaces a file: when
// there is one already the error is fs.ErrExist.
//
// The file appears under its name whole and synced, or not at all, so that a
// node that is stopped in the middle of its first start can start again.
func CreateKeys(path string) (Keys, error) {
	k, err := NewKey()
	if err != nil {
		return nil, err
	}
	keys := Keys{k}
	data, err := keys.Marshal()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // it has another name by then, or is of no use
	_, err = io.Copy(tmp, bytes.NewReader(data))
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	// Linking, unlike renaming, fails when the name is taken.
	if err := os.Link(tmp.Name(), path); err != nil {
		return nil, err
	}
	return keys, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
