package connectapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A page token says where the next page begins. It is opaque to clients, and
// lives as long as they like: it names a place in an order, not a cursor that
// anyone keeps.
//
//	version 1 (byte), what it is for (8 bytes of a hash), where it goes on
//
// The hash is over the question, so that a token taken to another one is an
// error and not a gap. It is no secret: a token opens nothing.
const pageTokenVersion = 1

func encodePage(question [8]byte, at []byte) string {
	b := append([]byte{pageTokenVersion}, question[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, at...))
}

func decodePage(token string, question [8]byte) ([]byte, error) {
	wrong := invalid("page_token", "not one of a page of this question")
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) <= 9 || b[0] != pageTokenVersion || [8]byte(b[1:9]) != question {
		return nil, wrong
	}
	return b[9:], nil
}

// listQuestion names a question for entries: what two pages must have in common.
func listQuestion(m *dalvdbv1.ListEntriesRequest) [8]byte {
	h := sha256.New()
	for _, s := range []string{"entries", m.GetUserId(), m.GetPrefix()} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	if m.GetReverse() {
		h.Write([]byte{1})
	}
	return [8]byte(h.Sum(nil))
}

var usersQuestion = [8]byte{'u', 's', 'e', 'r', 's'}

func encodeUserCursor(c events.UserCursor) string {
	at := binary.BigEndian.AppendUint32(nil, uint32(c.Partition))
	return encodePage(usersQuestion, append(at, c.User...))
}

// decodeUserCursor returns nil for the first page.
func decodeUserCursor(token string) (*events.UserCursor, error) {
	if token == "" {
		return nil, nil
	}
	at, err := decodePage(token, usersQuestion)
	if err != nil {
		return nil, err
	}
	if len(at) < 4 || len(at) > 4+events.UserBytesMax || at[0] > 127 {
		return nil, invalid("page_token", "not one of a page of users")
	}
	return &events.UserCursor{
		Partition: events.Partition(binary.BigEndian.Uint32(at)), User: events.UserID(at[4:]),
	}, nil
}
