package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// keysFile is where a data directory has its keys (see auth.ReadKeys). All of
// them verify tokens, and the last private one signs.
func keysFile(data string) string { return filepath.Join(data, "keys") }

// readKeys returns the keys of a data directory.
func readKeys(data string) (auth.Keys, error) {
	keys, err := auth.ReadKeys(keysFile(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no keys in %s; \"dalvdb serve --data %s\" makes them at its first start", data, data)
	}
	return keys, err
}

// readSigningKeys returns the keys of a data directory if one of them can sign.
func readSigningKeys(data string) (auth.Keys, error) {
	keys, err := readKeys(data)
	if err == nil && keys.Signer() == nil {
		return nil, fmt.Errorf("%s: %w: it has public keys only", keysFile(data), auth.ErrNoSigner)
	}
	return keys, err
}

// readOrMakeKeys returns the keys of a data directory, and makes one when there
// are none.
func readOrMakeKeys(data string) (auth.Keys, error) {
	keys, err := auth.ReadKeys(keysFile(data))
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if keys, err = auth.CreateKeys(keysFile(data)); errors.Is(err, fs.ErrExist) {
		return auth.ReadKeys(keysFile(data)) // somebody was faster
	}
	return keys, err
}

// addKey adds a new signing key at the end and returns its id.
func addKey(data string) (string, error) {
	keys, err := readKeys(data)
	if err != nil {
		return "", err
	}
	k, err := auth.NewKey()
	if err != nil {
		return "", err
	}
	return k.ID(), writeKeys(data, append(keys, k))
}

// dropKey takes a key out: what it has signed is refused from then on.
func dropKey(data, id string) error {
	keys, err := readKeys(data)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(keys), func(k *auth.Key) bool { return k.ID() == id })
	switch {
	case len(left) == len(keys):
		return &exitError{code: exitNotFound, err: fmt.Errorf("no key %q in %s", id, keysFile(data))}
	case len(left) == 0:
		return fmt.Errorf("key %q is the only one: make a new one first", id)
	}
	return writeKeys(data, left)
}

func writeKeys(data string, keys auth.Keys) error {
	raw, err := keys.Marshal()
	if err != nil {
		return err
	}
	return writeFile(keysFile(data), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// selfSigned makes credentials of a backend with the key of a data directory,
// for a verb that runs on the node's own machine.
type selfSigned struct {
	keys auth.Keys

	mu      sync.Mutex
	current string
	expires time.Time
}

// The credential is renewed well before it ends: a watch lives longer than it.
const (
	selfSignedTTL   = 5 * time.Minute
	selfSignedRenew = time.Minute
)

func newSelfSigned(data string) (*selfSigned, error) {
	keys, err := readSigningKeys(data)
	if err != nil {
		return nil, err
	}
	return &selfSigned{keys: keys}, nil
}

// token implements backend.Options.Token.
func (s *selfSigned) token(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Add(selfSignedRenew).Before(s.expires) {
		return s.current, nil
	}
	expires := now.Add(selfSignedTTL)
	signed, err := s.keys.Sign(auth.Identity{Role: auth.Backend, Service: serviceOfCLI, Expires: expires}, now)
	if err != nil {
		return "", err
	}
	s.current, s.expires = signed, expires
	return signed, nil
}
