package backend

import (
	"context"
	"iter"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// Users returns all users with figures, by partition and name. An error ends
// the loop.
func (c *Client) Users(ctx context.Context) iter.Seq2[events.UserInfo, error] {
	return func(yield func(events.UserInfo, error) bool) {
		req := &dalvdbv1.ListUsersRequest{PageSize: events.PageEntriesMax}
		for {
			res, err := retry(ctx, c, func(ctx context.Context) (*connect.Response[dalvdbv1.ListUsersResponse], error) {
				return c.rpc.ListUsers(ctx, connect.NewRequest(req))
			})
			if err != nil {
				yield(events.UserInfo{}, err)
				return
			}
			users, err := wire.DecodeUsers(res.Msg.GetUsers(), "users")
			if err != nil {
				yield(events.UserInfo{}, err)
				return
			}
			for _, u := range users {
				if !yield(u, nil) {
					return
				}
			}
			if req.PageToken = res.Msg.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// Domains returns the rules that say who may write and see which key. As long as
// not all partitions have the same, because SetDomains is under way or has failed,
// it is events.ErrUnavailable.
func (c *Client) Domains(ctx context.Context) (events.Domains, error) {
	res, err := retry(ctx, c, func(ctx context.Context) (*connect.Response[dalvdbv1.GetDomainsResponse], error) {
		return c.rpc.GetDomains(ctx, connect.NewRequest(&dalvdbv1.GetDomainsRequest{}))
	})
	if err != nil {
		return nil, err
	}
	return wire.DecodeDomains(res.Msg.GetPatterns()), nil
}

// SetDomains replaces these rules, all of them, and returns when they are in
// force in all partitions. After an error they may be so in some; setting them
// again is safe.
func (c *Client) SetDomains(ctx context.Context, d events.Domains) error {
	req := &dalvdbv1.SetDomainsRequest{Patterns: wire.EncodeDomains(d)}
	_, err := retry(ctx, c, func(ctx context.Context) (*connect.Response[dalvdbv1.SetDomainsResponse], error) {
		return c.rpc.SetDomains(ctx, connect.NewRequest(req))
	})
	return err
}
