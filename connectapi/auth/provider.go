package auth

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"golang.org/x/time/rate"
)

const (
	// providerTimeout bounds one fetch of the provider's keys.
	providerTimeout = 5 * time.Second

	// providerEvery is how often the keys are fetched. A key that the provider
	// has dropped is trusted for no longer than this.
	providerEvery = time.Hour

	// providerUnknownEvery is how often a token that names an unknown key may
	// cause a fetch, so that forged ones cannot be turned against the provider.
	providerUnknownEvery = 30 * time.Second

	// providerBytesMax bounds what is read of the provider's answer.
	providerBytesMax = 1 << 20
)

// A provider is the key set that an identity provider serves.
type provider struct {
	storage jwkset.Storage
	close   context.CancelFunc
}

func newProvider(url string, logger *slog.Logger) (*provider, error) {
	ctx, cancel := context.WithCancel(context.Background())
	kf, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{url}, keyfunc.Override{
		Client:          &http.Client{Transport: limitBody{http.DefaultTransport}},
		HTTPTimeout:     providerTimeout,
		RefreshInterval: providerEvery,
		// Bounds the fetch, and the wait for the limiter before it: who would have
		// to wait longer is refused at once.
		RateLimitWaitMax:  providerTimeout,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(providerUnknownEvery), 1),
		RefreshErrorHandlerFunc: func(u string) func(context.Context, error) {
			return func(_ context.Context, err error) {
				logger.Warn("keys of the identity provider were not fetched", "url", u, "err", err)
			}
		},
	})
	if err != nil {
		cancel()
		return nil, err
	}
	return &provider{storage: kf.Storage(), close: cancel}, nil
}

// find returns the provider's keys: that of the name, or without one all. A key
// that cannot verify tokens is left out, and so is a secret, which nobody
// publishes on purpose.
func (p *provider) find(ctx context.Context, kid string) (Keys, error) {
	jwks, err := p.read(ctx, kid)
	if err != nil {
		return nil, err
	}
	var keys Keys
	for _, jwk := range jwks {
		k, err := newKey(jwk)
		if err != nil {
			continue
		}
		if _, secret := k.verify.([]byte); secret {
			continue
		}
		k.foreign = true
		keys = append(keys, k)
	}
	return keys, nil
}

func (p *provider) read(ctx context.Context, kid string) ([]jwkset.JWK, error) {
	if kid != "" {
		ctx, cancel := context.WithTimeout(ctx, providerTimeout)
		defer cancel()
		jwk, err := p.storage.KeyRead(ctx, kid)
		if err == nil {
			return []jwkset.JWK{jwk}, nil
		}
	}
	all, err := p.storage.KeyReadAll(ctx)
	switch {
	case err != nil || len(all) == 0:
		return nil, &Error{NoKeys}
	case kid != "":
		return nil, &Error{UnknownKey}
	}
	return all, nil
}

// limitBody bounds the bodies of answers.
type limitBody struct{ base http.RoundTripper }

func (l limitBody) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(r)
	if err == nil {
		resp.Body = limitedBody{io.LimitReader(resp.Body, providerBytesMax), resp.Body}
	}
	return resp, err
}

type limitedBody struct {
	io.Reader
	io.Closer
}
