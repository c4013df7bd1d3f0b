package auth

import (
	"net/http"
	"strings"
)

// Bearer returns the token in a request's Authorization header, "" when there
// is none.
func Bearer(h http.Header) string {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
