package events

import "time"

// The limits of an event. Package ingest refuses what is over them, so that
// every attempt with the same bytes meets the same answer; DecodeRecord holds
// records to those that concern the form of a name.
const (
	// UserBytesMax bounds a user id: it is a Kafka record key and the prefix of
	// every row of the user, so that it is paid for at each of them.
	UserBytesMax = 256

	// KeyBytesMax bounds a key: escaped at worst to twice its length, it still
	// leaves a row key that fits one index block of the store.
	KeyBytesMax = 512

	// ValueBytesMax bounds one value. Larger things belong into an object
	// store, with their address here.
	ValueBytesMax = 256 << 10

	// EventBytesMax bounds an encoded record, envelope included: it fits the
	// 1,048,588 bytes of Kafka's default max.message.bytes with its headers.
	EventBytesMax = 1_000_000

	// OpsMax and GuardsMax bound the work that one event asks of the fold.
	OpsMax    = 1_000
	GuardsMax = 1_000

	// MetaEntriesMax and MetaBytesMax (names and values together) bound what
	// travels with an event without being looked at.
	MetaEntriesMax = 16
	MetaBytesMax   = 1 << 10

	// NameBytesMax bounds a device, service, request and source name, each of
	// which is part of a row that is kept for ever or for a day.
	NameBytesMax = 64

	// ActorBytesMax bounds the actor that a token names for audits.
	ActorBytesMax = 256
)

// The limits of fold version 1. They decide verdicts, so they may change only
// together with the fold version of a partition.
const (
	// KeyValuesMax and KeyValuesBytesMax bound what one key holds, so that a
	// key fits one answer and can be replaced in one step.
	KeyValuesMax      = 100_000
	KeyValuesBytesMax = 2 << 20

	// EffectBytesMax bounds the effect of an event, summed over its keys (for
	// each the smaller of its patch and its new values): it fits one message
	// of the change feed and one answer to a device.
	EffectBytesMax = 4 << 20

	// EventRemovalsMax and EventRemovedBytesMax bound how many values the list ops
	// of one event take out, those that move to the end among them, and how large
	// these are together. EffectBytesMax does not: the patch that empties a list is
	// as small as what is left of it, and yet each value that goes is read, is held
	// until the event is decided, and its rows are dropped. A full list can be
	// emptied by one event, one by one; a delete or put is not bounded by them.
	EventRemovalsMax     = 100_000
	EventRemovedBytesMax = 4 << 20

	// ViolationsMax bounds how many violations a verdict lists: it is kept with
	// the name of its event.
	ViolationsMax = 100

	// DevicesMax bounds the devices of one user: each leaves a row for ever.
	DevicesMax = 10_000

	// RequestWindow is how long, in log time, a backend's request id is known.
	RequestWindow = 24 * time.Hour
)

// The limits of the edge.
const (
	// TokenBytesMax bounds a credential, before anything of it is decoded.
	TokenBytesMax = 8 << 10

	// PageEntriesMax bounds a page of entries or users, and UpdateMany.
	PageEntriesMax = 1_000

	// RequestBytesMax bounds what is read of a request, compressed or not.
	RequestBytesMax = 2 << 20

	// RequestPartsMax bounds the messages and list elements of a request, of which
	// two bytes of it can make 200 in memory. A write at all its limits has some
	// 4,000, and one of a few times as many ops is still told so by a verdict.
	RequestPartsMax = 16 << 10

	// UpdateManyPartsMax bounds those of UpdateMany, whose usual ones have three
	// for an op and one for a guard.
	UpdateManyPartsMax = 200_000

	// AnswerBytesMax is what our clients read of one message of an answer.
	AnswerBytesMax = 16 << 20

	// DeltaBytesMax bounds the changes in one answer to a device; what is
	// larger is announced by "more" and taken from Watch in parts. It is above
	// EffectBytesMax, so that the effect of a push fits its own answer.
	DeltaBytesMax = 5 << 20

	// WaitMax bounds how long Sync holds an empty answer: below the minute
	// after which proxies commonly give up.
	WaitMax = 55 * time.Second

	// DiskFreeMin is the free space below which writes are refused, so that
	// compactions and a clean stop still have room.
	DiskFreeMin = 512 << 20
)
