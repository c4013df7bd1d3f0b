package connectapi

import (
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// authenticate lets through who brings a good token for the port, before
// anything of the request is decoded, and answers others in the protocol they
// speak.
func (a *API) authenticate(p port, next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		who, err := a.cfg.Verifier.Verify(r.Context(), auth.Bearer(r.Header), p.role())
		if err == nil {
			c.who = who
			next.ServeHTTP(w, r)
			return
		}
		var bad *auth.Error
		if errors.As(err, &bad) {
			a.metrics.authFailed(p, bad.Reason)
		}
		err = c.finish(err)
		if c.told.Code() == connect.CodeUnauthenticated {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		_ = errs.Write(w, r, err) // the client has gone; there is nobody else to tell
	})
}
