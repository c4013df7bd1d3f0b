package commands

import (
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pubsub"
)

// The headers that a command gets in the poison topic, besides those it came with.
const (
	HeaderOutcome   = "dalvdb-outcome"           // the name of an Outcome
	HeaderReason    = "dalvdb-reason"            // in words
	HeaderVerdict   = "dalvdb-verdict"           // for machines, if there is one
	HeaderPosition  = "dalvdb-position"          // log/partition/offset that it was decided at, if it was
	HeaderTopic     = "dalvdb-command-topic"     // where it came from
	HeaderPartition = "dalvdb-command-partition" // decimal
	HeaderOffset    = "dalvdb-command-offset"    // decimal
)

// reasonBytesMax bounds what is said in words: what came may be repeated in it.
const reasonBytesMax = 4 << 10

// failure is why a command does not take effect.
type failure struct {
	outcome  Outcome
	reason   string
	verdict  []byte
	position events.Position // zero: it is not in the log
}

// discard puts a command into the poison topic. Until it is there the command is not
// done.
func (r *Router) discard(m *message.Message, place pubsub.Place, f failure) error {
	poison := f.message(m, place)
	err := r.insist(m.Context(), place, func() error { return r.poison.Publish(r.cfg.poison(), poison) })
	if err != nil {
		return err
	}
	r.stats.Done[f.outcome].Add(1)
	r.logger.Warn("a command did not take effect", "topic", place.Topic, "partition", place.Partition, "offset", place.Offset,
		"outcome", f.outcome, "reason", f.reason)
	return nil
}

// message returns the command as it came, with what was said of it. Who looks at it
// there and thinks better of it sends it once more as it is.
func (f *failure) message(m *message.Message, place pubsub.Place) *message.Message {
	poison := message.NewMessageWithContext(m.Context(), m.UUID, m.Payload)
	maps.Copy(poison.Metadata, m.Metadata)
	for _, h := range []string{HeaderVerdict, HeaderPosition} { // of an earlier time, if it was here before
		delete(poison.Metadata, h)
	}
	poison.Metadata[HeaderOutcome] = f.outcome.String()
	poison.Metadata[HeaderReason] = short(f.reason)
	poison.Metadata[HeaderTopic] = place.Topic
	poison.Metadata[HeaderPartition] = strconv.Itoa(int(place.Partition))
	poison.Metadata[HeaderOffset] = strconv.FormatInt(place.Offset, 10)
	if f.verdict != nil {
		poison.Metadata[HeaderVerdict] = string(f.verdict)
	}
	if !f.position.IsZero() {
		poison.Metadata[HeaderPosition] = f.position.String()
	}
	return poison
}

// short returns the words, cut where there are too many.
func short(words string) string {
	words = strings.ToValidUTF8(words, "\uFFFD")
	if len(words) <= reasonBytesMax {
		return words
	}
	end := reasonBytesMax
	for !utf8.RuneStart(words[end]) {
		end--
	}
	return words[:end] + "..."
}

// keyAsItCame returns the key of the command that a message comes from.
func keyAsItCame(_ string, m *message.Message) ([]byte, error) {
	place, _ := pubsub.PlaceOf(m.Context())
	return place.Key, nil
}
