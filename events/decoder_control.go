package events

import "google.golang.org/protobuf/encoding/protowire"

// decodeControl reads a control record into r.
//
// A field of Control that this binary does not know, and no kind that it knows,
// is a kind made by a later binary: its number goes into r.Unknown, and nothing
// else of the record is looked at, for only the later binary can say whether the
// rest is legible. Beside a kind that is known it is an error. The later binary
// then either sees two kinds, an error too, or a field that is no kind; and such
// a field comes with a higher fold version, at which this binary has stopped.
func decodeControl(r *Record, b []byte) error {
	const time = 6 // the numbers below it are kinds
	var (
		kind    protowire.Number
		body    []byte
		at      Time
		unknown protowire.Number
	)
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.number < time:
			kind, body = f.number, f.message()
		case f.number == time:
			at = Time(f.int64())
		case unknown == 0:
			unknown = f.number
		}
	}
	kinds := f.has(1, 2, 3, 4, 5)
	if f.err == nil && unknown != 0 && kinds == 0 {
		r.Unknown = int32(unknown)
		return nil
	}
	if f.err == nil && unknown != 0 {
		f.number = unknown
		f.unknown()
	}
	if f.err != nil {
		return f.err
	}
	if err := oneof(kinds, errNoKind); err != nil {
		return err
	}
	return decodeControlKind(r, kind, body, at)
}

func decodeControlKind(r *Record, kind protowire.Number, b []byte, at Time) error {
	switch kind {
	case 1:
		r.Genesis = &Genesis{Time: at}
		return decodeGenesis(r.Genesis, b)
	case 2:
		r.Epoch = &Epoch{Time: at}
		return decodeEpoch(r.Epoch, b)
	case 3:
		r.Barrier = &Barrier{Time: at}
		return decodeNothing(b)
	case 4:
		r.Domains = &SetDomains{Time: at}
		return decodeSetDomains(r.Domains, b)
	default: // 5, as the caller made sure
		r.Fold = &SetFold{Time: at}
		return decodeSetFold(r.Fold, b)
	}
}

func decodeGenesis(g *Genesis, b []byte) error {
	f := fields{rest: b, repeated: 1 << 4}
	for f.next() {
		switch f.number {
		case 1:
			g.Log = LogID(f.id())
		case 2:
			g.Partition = Partition(f.int32())
		case 3:
			g.Partitions = f.int32()
		case 4:
			f.fail(decodeDomainRule(&g.Domains, f.message()))
		case 5:
			g.FoldVersion = f.uint32()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeEpoch(e *Epoch, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			e.Log = LogID(f.id())
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeSetDomains(d *SetDomains, b []byte) error {
	f := fields{rest: b, repeated: 1 << 1}
	for f.next() {
		switch f.number {
		case 1:
			f.fail(decodeDomainRule(&d.Domains, f.message()))
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeSetFold(s *SetFold, b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			s.Version = f.uint32()
		default:
			f.unknown()
		}
	}
	return f.err
}

func decodeDomainRule(d *Domains, b []byte) error {
	var rule DomainRule
	f := fields{rest: b}
	for f.next() {
		switch f.number {
		case 1:
			rule.Pattern = f.text()
		case 2:
			rule.Domain = Domain(f.upTo(uint64(DomainPrivate)))
		default:
			f.unknown()
		}
	}
	*d = append(*d, rule)
	return f.err
}
