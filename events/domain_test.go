package events

import (
	"errors"
	"strings"
	"testing"
)

func TestPatternsMatchSegments(t *testing.T) {
	for _, c := range []struct {
		pattern   string
		match, no []Key
	}{
		{"a", []Key{"a"}, []Key{"b", "a/b", "a/", "/a", "aa"}},
		{"a/*", []Key{"a/b", "a/"}, []Key{"a", "a/b/c", "b/b"}},
		{"*", []Key{"a", "é"}, []Key{"a/b", "/"}},
		{"*/b", []Key{"a/b", "/b"}, []Key{"b", "a/b/c"}},
		{"a/**", []Key{"a/b", "a/b/c", "a/", "a//"}, []Key{"a", "ab", "ab/c"}},
		{"**", []Key{"a", "a/b", "/"}, nil},
		{"a/*/c/**", []Key{"a/b/c/d", "a//c/d/e"}, []Key{"a/b/c", "a/c/d"}},
	} {
		d := Domains{{Pattern: c.pattern, Domain: DomainPrivate}}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		}
		for _, k := range c.match {
			if d.Of(k) != DomainPrivate {
				t.Errorf("%s does not match %s", c.pattern, k)
			}
		}
		for _, k := range c.no {
			if d.Of(k) != DomainUser {
				t.Errorf("%s matches %s", c.pattern, k)
			}
		}
	}
}

func TestFirstPatternWins(t *testing.T) {
	d := Domains{{"system/open/**", DomainUser}, {"system/**", DomainSystem}, {"**", DomainPrivate}}
	for k, want := range map[Key]Domain{
		"system/open/a": DomainUser, "system/open": DomainSystem, "system/a": DomainSystem, "system": DomainPrivate, "a": DomainPrivate,
	} {
		if got := d.Of(k); got != want {
			t.Errorf("%s is of %v, want %v", k, got, want)
		}
	}
}

func TestDefaultDomains(t *testing.T) {
	for k, want := range map[Key]Domain{
		"system/a": DomainSystem, "private/a/b": DomainPrivate, "a": DomainUser, "system": DomainUser, "privates/a": DomainUser,
	} {
		if got := DefaultDomains().Of(k); got != want {
			t.Errorf("%s is of %v, want %v", k, got, want)
		}
	}
}

func TestDomainsValidate(t *testing.T) {
	many := make(Domains, DomainRulesMax)
	for i := range many {
		many[i] = DomainRule{"a", DomainUser}
	}
	for name, d := range map[string]Domains{
		"none": nil, "most rules": many, "longest pattern": {{strings.Repeat("p", PatternBytesMax), DomainUser}},
	} {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		rules Domains
		field string
	}{
		"too many rules": {append(many, DomainRule{"a", DomainUser}), "patterns"},
		"empty":          {Domains{{"a", DomainUser}, {"", DomainUser}}, "patterns[1].pattern"},
		"too long":       {Domains{{strings.Repeat("p", PatternBytesMax+1), DomainUser}}, "patterns[0].pattern"},
		"not UTF-8":      {Domains{{"\xff", DomainUser}}, "patterns[0].pattern"},
		"** inside":      {Domains{{"a/**/b", DomainUser}}, "patterns[0].pattern"},
		"part wildcard":  {Domains{{"a/b*", DomainUser}}, "patterns[0].pattern"},
		"***":            {Domains{{"***", DomainUser}}, "patterns[0].pattern"},
		"no domain":      {Domains{{"a", 0}}, "patterns[0].domain"},
		"unknown domain": {Domains{{"a", DomainPrivate + 1}}, "patterns[0].domain"},
	} {
		var invalid *InvalidError
		if err := c.rules.Validate(); !errors.As(err, &invalid) || invalid.Field != c.field {
			t.Errorf("%s: %v, want an InvalidError of %s", name, err, c.field)
		}
	}
}

func TestParseDomainReadsString(t *testing.T) {
	for _, d := range []Domain{DomainUser, DomainSystem, DomainPrivate} {
		if got, err := ParseDomain(d.String()); err != nil || got != d {
			t.Errorf("%v: %v, %v", d, got, err)
		}
	}
	for _, s := range []string{"", "User", "domain"} {
		if d, err := ParseDomain(s); err == nil {
			t.Errorf("%q is read as %v", s, d)
		}
	}
}
