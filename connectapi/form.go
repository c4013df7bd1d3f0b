package connectapi

import (
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// What the edge checks of a request itself: what it needs before it may ask.
// That strings are valid UTF-8 both codecs have seen to.

func tooLong(field string, limit int) error {
	return invalid(field, fmt.Sprintf("longer than %d bytes", limit))
}

func checkText(field, s string, limit int) error {
	switch {
	case s == "":
		return invalid(field, "required")
	case len(s) > limit:
		return tooLong(field, limit)
	}
	return nil
}

func checkName(field, s string) error { return checkText(field, s, events.NameBytesMax) }

func checkUserID(s string) error { return checkText("user_id", s, events.UserBytesMax) }

func checkKey(field, s string) error { return checkText(field, s, events.KeyBytesMax) }

// checkPageSize returns how many elements a page has at most.
func checkPageSize(n int32) (int, error) {
	switch {
	case n == 0:
		return events.PageEntriesMax, nil
	case n < 0 || n > events.PageEntriesMax:
		return 0, invalid("page_size", fmt.Sprintf("want 1 to %d, or 0 for that", events.PageEntriesMax))
	}
	return int(n), nil
}
