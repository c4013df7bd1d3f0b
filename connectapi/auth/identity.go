package auth

import (
	"maps"
	"slices"
	"time"

	"github.com/dalvdb/dalvdb/events"
)

// The audiences (claim aud) that tokens are for.
const (
	AudienceDevice  = "dalvdb/device"
	AudienceBackend = "dalvdb/backend"
)

// ScopeReadOnly in the claim scope, a list of words separated by spaces, makes
// a token good for reading only.
const ScopeReadOnly = "dalvdb:read-only"

// A Role is what a token is for: one of the two services.
type Role uint8

// The roles.
const (
	Device  Role = iota + 1 // of one user
	Backend                 // of the operator
)

// audience returns the audience of the role's tokens.
func (r Role) audience() string {
	if r == Device {
		return AudienceDevice
	}
	return AudienceBackend
}

// An Identity is who a verified token speaks for.
type Identity struct {
	Role     Role
	User     events.UserID // of a device; its data is all that the token opens
	Service  string        // of a backend: the name it writes under
	Actor    string        // on whose behalf, from act.sub; may be empty
	ReadOnly bool          // may not write
	Expires  time.Time     // not good from then on
}

// A Reason says why a token is not good. It is short enough for a metric label.
type Reason string

// The reasons.
const (
	Missing     Reason = "missing"      // there is none
	TooLong     Reason = "too_long"     // over events.TokenBytesMax
	Malformed   Reason = "malformed"    // not a JSON Web Token
	UnknownKey  Reason = "unknown_key"  // signed by a key that is not trusted here
	Algorithm   Reason = "algorithm"    // not the algorithm of its key
	Signature   Reason = "signature"    // the signature is not that of its key
	Expired     Reason = "expired"      // its time has passed
	NotYetValid Reason = "not_yet"      // its time has not come
	NoExpiry    Reason = "no_expiry"    // it would be good for ever
	WrongAud    Reason = "audience"     // for another service
	WrongIssuer Reason = "issuer"       // from another identity provider
	BadSubject  Reason = "subject"      // names nobody, or nobody possible
	NoKeys      Reason = "keys_missing" // the identity provider has not been reached yet
	KeyPending  Reason = "key_pending"  // the identity provider has to be asked for the key first
)

var reasons = map[Reason]string{
	Missing:     "a bearer token is required",
	TooLong:     "token is longer than 8 KiB",
	Malformed:   "token is not a JSON Web Token",
	UnknownKey:  "token is signed by a key that is not trusted here",
	Algorithm:   "token names another algorithm than its key has",
	Signature:   "token signature is not valid",
	Expired:     "token has expired",
	NotYetValid: "token is not valid yet",
	NoExpiry:    "token has no expiry (claim exp)",
	WrongAud:    "token is for another audience",
	WrongIssuer: "token is from another issuer",
	BadSubject:  "token names no possible user or service",
	NoKeys:      "keys of the identity provider are not there yet",
	KeyPending:  "token is signed by a key that is not known here yet",
}

// Reasons returns all reasons, in order.
func Reasons() []Reason { return slices.Sorted(maps.Keys(reasons)) }

// An Error says why a token is not good.
type Error struct{ Reason Reason }

// Error describes the reason for people. It repeats nothing of the token.
func (e *Error) Error() string { return reasons[e.Reason] }

// Temporary reports that the token may be good, and cannot be told now.
func (e *Error) Temporary() bool { return e.Reason == NoKeys || e.Reason == KeyPending }
