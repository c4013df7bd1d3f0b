// Package auth says who a request is from.
//
// What comes in: a bearer token, a JSON Web Token of at most
// events.TokenBytesMax bytes; and the keys that are trusted: a JWK Set in a
// file, the URL of one that an identity provider serves, or both.
//
// What goes out: an Identity, the user of a device or the name of a service,
// with the moment it ends; or an *Error with the reason why not. Keys also sign
// tokens, for the command and for tests.
//
// What it promises: the algorithm is that of our key, never what the token's
// header asks for, so that "none" and a public key used as a secret are
// refused; a token without an expiry is refused; a token is looked at only as
// far as its size allows. Several keys are accepted at once, and the newest one
// signs. A token that was verified is remembered until it expires, or until the
// keys are replaced (Verifier.SetKeys); it is good until then even if an
// identity provider has dropped its key. A token of a key that the provider may
// have begun to use is not called bad before it has been asked.
//
// What it refuses to do: decide what an identity may do, or take back a token
// before it expires and without taking back its key.
package auth
