package wire

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// invalid names a field that cannot be translated.
func invalid(field, detail string) error {
	return &events.InvalidError{Field: field, Detail: detail}
}

// eachField translates a list whose elements may be wrong, each under its path.
func eachField[A, B any](in []A, field string, f func(A, string) (B, error)) ([]B, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		var err error
		if out[i], err = f(v, ""); err == nil {
			continue
		}
		// The path is made only where it is needed.
		_, err = f(v, field+"["+strconv.Itoa(i)+"]")
		return nil, err
	}
	return out, nil
}

// CheckKnown reports a field in m, at any depth, that this binary does
// not know, as an *events.InvalidError that names the message it is in and the
// field's number. field is the path of m, "" for the root.
//
// A writer that misspells a field, or speaks a newer schema, must not have the
// rest of what it said carried out: without its guards a write is another write.
func CheckKnown(m proto.Message, field string) error {
	switch m := m.(type) {
	case *dalvdbv1.Push:
		if isKnown(m) && writeKnown(m.GetGuards(), m.GetOps()) {
			return nil
		}
	case *dalvdbv1.UpdateRequest:
		if isKnown(m) && isKnown(m.GetSource()) && writeKnown(m.GetGuards(), m.GetOps()) {
			return nil
		}
	}
	return checkKnown(m.ProtoReflect(), func() string { return field })
}

// writeKnown reports that guards and ops have no field that is not known. It
// does for the two messages of every write, without the allocations, what
// checkKnown does for all; that it looks everywhere is a test.
func writeKnown(guards []*dalvdbv1.Guard, ops []*dalvdbv1.Op) bool {
	for _, g := range guards {
		if !isKnown(g) {
			return false
		}
	}
	for _, op := range ops {
		if !isKnown(op) || !opKnown(op) {
			return false
		}
	}
	return true
}

func opKnown(op *dalvdbv1.Op) bool {
	switch k := op.GetKind().(type) {
	case *dalvdbv1.Op_Put:
		return isKnown(k.Put) && isKnown(k.Put.GetValue())
	case *dalvdbv1.Op_Delete:
		return isKnown(k.Delete)
	case *dalvdbv1.Op_AddToList:
		return isKnown(k.AddToList) && isKnown(k.AddToList.GetValue())
	case *dalvdbv1.Op_RemoveFromList:
		return isKnown(k.RemoveFromList) && isKnown(k.RemoveFromList.GetValue())
	case *dalvdbv1.Op_Increment:
		return isKnown(k.Increment)
	}
	return op.GetKind() == nil // of a kind that is new here: look in the other way
}

func isKnown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }

func checkKnown(m protoreflect.Message, path func() string) error {
	if u := m.GetUnknown(); len(u) > 0 {
		num, _, _ := protowire.ConsumeTag(u)
		return invalid(join(path(), strconv.Itoa(int(num))), "unknown field")
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil || fd.IsMap() {
			return true // strings by strings, the only kind of map there is
		}
		below := func() string { return join(path(), string(fd.Name())) }
		if !fd.IsList() {
			err = checkKnown(v.Message(), below)
			return err == nil
		}
		for i := range v.List().Len() {
			if err = checkKnown(v.List().Get(i).Message(), func() string { return below() + "[" + strconv.Itoa(i) + "]" }); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
