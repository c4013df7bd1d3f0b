package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Domain says who may write and who may see a key.
type Domain uint8

// The domains.
const (
	DomainUser    Domain = iota + 1 // devices and backends write
	DomainSystem                    // backends write, devices read
	DomainPrivate                   // backends only; no answer to a device names such a key
)

var domains = [...]string{DomainUser: "user", DomainSystem: "system", DomainPrivate: "private"}

// String returns the domain's name.
func (d Domain) String() string {
	if d == 0 || int(d) >= len(domains) {
		return fmt.Sprintf("Domain(%d)", uint8(d))
	}
	return domains[d]
}

// ParseDomain reads what Domain.String wrote.
func ParseDomain(s string) (Domain, error) {
	for d, name := range domains {
		if name == s && d > 0 {
			return Domain(d), nil
		}
	}
	return 0, fmt.Errorf("domain %q: want user, system or private", s)
}

// A DomainRule puts the keys that match Pattern into Domain. In a pattern a
// segment "*" stands for any one segment, and "**" as the last segment for the
// rest, of one segment or more.
type DomainRule struct {
	Pattern string
	Domain  Domain
}

// Domains are rules in order; the first that matches wins, and a key that none
// matches is the user's.
type Domains []DomainRule

// DefaultDomains are the rules of a new log.
func DefaultDomains() Domains {
	return Domains{{"system/**", DomainSystem}, {"private/**", DomainPrivate}}
}

// Of returns the domain of the key.
func (d Domains) Of(k Key) Domain {
	for _, r := range d {
		if matchPattern(r.Pattern, string(k)) {
			return r.Domain
		}
	}
	return DomainUser
}

// DomainRulesMax and PatternBytesMax bound the rules, which the fold looks
// through for every key that a device writes.
const (
	DomainRulesMax  = 100
	PatternBytesMax = KeyBytesMax
)

// Validate reports the first rule that cannot stand, as an *InvalidError with
// the field as SetDomains names it.
func (d Domains) Validate() error {
	if len(d) > DomainRulesMax {
		return &InvalidError{Field: "patterns", Detail: fmt.Sprintf("%d rules, at most %d", len(d), DomainRulesMax)}
	}
	for i, r := range d {
		if err := validatePattern(r.Pattern); err != nil {
			return &InvalidError{Field: fmt.Sprintf("patterns[%d].pattern", i), Detail: err.Error()}
		}
		if r.Domain < DomainUser || r.Domain > DomainPrivate {
			return &InvalidError{Field: fmt.Sprintf("patterns[%d].domain", i), Detail: "want user, system or private"}
		}
	}
	return nil
}

func validatePattern(p string) error {
	switch {
	case p == "":
		return errors.New("empty")
	case len(p) > PatternBytesMax:
		return fmt.Errorf("%d bytes, at most %d", len(p), PatternBytesMax)
	case !utf8.ValidString(p):
		return errors.New("not valid UTF-8")
	}
	segments := strings.Split(p, "/")
	for i, s := range segments {
		if s == "**" && i != len(segments)-1 {
			return errors.New(`"**" may only be the last segment`)
		}
		if s != "*" && s != "**" && strings.Contains(s, "*") {
			return errors.New(`"*" stands for a whole segment`)
		}
	}
	return nil
}

func matchPattern(pattern, key string) bool {
	for {
		seg, rest, more := strings.Cut(pattern, "/")
		if seg == "**" && !more {
			return true
		}
		kseg, krest, kmore := strings.Cut(key, "/")
		if seg != "*" && seg != kseg {
			return false
		}
		if !more || !kmore {
			return more == kmore
		}
		pattern, key = rest, krest
	}
}
