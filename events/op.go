package events

import "strconv"

// A UserID names the owner of a private key space: non-empty UTF-8 of at most
// UserBytesMax bytes.
type UserID string

// A Key names values of one user: non-empty UTF-8 of at most KeyBytesMax
// bytes, with '/' as the separator of segments. Keys are ordered by their bytes.
type Key string

// A Guard says "this key still is as I saw it". Version 0 says that it was absent.
type Guard struct {
	Key     Key
	Version Offset
}

// OpKind says what an op does.
type OpKind uint8

// The kinds of op.
const (
	OpPut       OpKind = iota + 1 // replace by one value
	OpDelete                      // remove all values
	OpAdd                         // append to the list unless present
	OpRemove                      // take one value out of the list
	OpIncrement                   // add to the number
)

var opKinds = [...]string{OpPut: "put", OpDelete: "delete", OpAdd: "add_to_list", OpRemove: "remove_from_list", OpIncrement: "increment"}

// String returns the kind's name in the API.
func (k OpKind) String() string {
	if k == 0 || int(k) >= len(opKinds) {
		return "OpKind(" + strconv.Itoa(int(k)) + ")"
	}
	return opKinds[k]
}

// An Op changes the values of one key. Make one with Put, Delete, Add, Remove
// or Increment; the fields that a kind does not name are zero.
type Op struct {
	Kind      OpKind
	Key       Key
	Value     Value // of put, add and remove
	By        int64 // of increment
	KeepLast  int64 // of add: how many of the newest values remain; 0 is no cap
	MoveToEnd bool  // of add: a value that is present moves to the end
}

// Put replaces what the key holds by one value. It always has an effect.
func Put(k Key, v Value) Op { return Op{Kind: OpPut, Key: k, Value: v} }

// Delete removes all values. It has an effect if there were any.
func Delete(k Key) Op { return Op{Kind: OpDelete, Key: k} }

// Add appends the value to the list unless it is there.
func Add(k Key, v Value) Op { return Op{Kind: OpAdd, Key: k, Value: v} }

// Remove takes the value that equals v out of the list, if it is there.
func Remove(k Key, v Value) Op { return Op{Kind: OpRemove, Key: k, Value: v} }

// Increment adds to the number that the key holds; an absent key counts as 0.
func Increment(k Key, by int64) Op { return Op{Kind: OpIncrement, Key: k, By: by} }
