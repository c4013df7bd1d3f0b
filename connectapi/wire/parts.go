package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// CheckParts reports a request that would become much larger in memory than it
// is: data is to be decoded into m. A part is a message inside of the request, or
// an element of one of its lists: it takes two bytes at least, and some 200 once
// it is decoded, and gzip makes a thousand of the two bytes one.
//
// The error names the list that went too far. Up to the limit all is decoded, so
// that a write with too many ops is refused by a verdict. What is not legible is
// left to the decoder.
func CheckParts(data []byte, m proto.Message) error {
	if len(data) <= 2*events.RequestPartsMax {
		return nil // it cannot have more
	}
	c := parts{limit: events.RequestPartsMax}
	if _, ok := m.(*dalvdbv1.UpdateManyRequest); ok {
		c.limit = events.UpdateManyPartsMax
	}
	return c.walk(data, m.ProtoReflect().Descriptor(), nil)
}

// MaxParts returns how many parts an update has at most, itself among them.
func MaxParts(m *dalvdbv1.UpdateRequest) int {
	return 2 + len(m.GetGuards()) + 3*len(m.GetOps()) + len(m.GetMeta())
}

// parts counts the parts of a request.
type parts struct {
	limit, seen int
	updates     int // of UpdateMany
}

// walk counts what is in a message, looking at no byte twice. above is the path
// of the message, from its end.
func (c *parts) walk(data []byte, md protoreflect.MessageDescriptor, above *place) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil
		}
		data = data[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, data); n < 0 {
				return nil
			}
			data = data[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return nil
		}
		data = data[n:]
		fd := md.Fields().ByNumber(num)
		if fd == nil || fd.Message() == nil && !fd.IsList() {
			continue
		}
		here := place{above, fd}
		if err := c.add(&here); err != nil {
			return err
		}
		if fd.Message() == nil {
			continue
		}
		if err := c.walk(value, fd.Message(), &here); err != nil {
			return err
		}
	}
	return nil
}

func (c *parts) add(at *place) error {
	if c.seen++; c.seen > c.limit {
		return invalid(at.path(), fmt.Sprintf("the request has more than %d messages and elements by here", c.limit))
	}
	if c.limit == events.UpdateManyPartsMax && at.above == nil {
		if c.updates++; c.updates > events.PageEntriesMax {
			return invalid(at.path(), fmt.Sprintf("want 1 to %d", events.PageEntriesMax))
		}
	}
	return nil
}

// A place is where a walk stands.
type place struct {
	above *place
	field protoreflect.FieldDescriptor
}

func (p *place) path() string {
	if p == nil {
		return ""
	}
	return join(p.above.path(), string(p.field.Name()))
}
