package replicatest_test

import (
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

// A test of an application: two devices and a service, of which one device is offline
// for a while.
func TestServer(t *testing.T) {
	s := replicatest.NewServer(t)
	phone := s.Replica("ann", replica.Rule{Pattern: "cart", Resolve: replica.UnionList})
	laptop := s.Replica("ann")
	shop := s.Service("shop")

	s.SetOnline(false)
	edit(t, phone, func(tx *replica.Tx) { replica.Put(tx, "cart", "tea") })
	if err := phone.Sync(t.Context()); err == nil {
		t.Fatal("there is a network")
	}
	s.SetOnline(true)
	_, err := shop.Update(t.Context(), "ann", backend.Update{Ops: []events.Op{events.Put("cart", events.Text("bread"))}})
	must(t, err)
	must(t, phone.Sync(t.Context()))
	must(t, laptop.Sync(t.Context()))
	for _, r := range []*replica.Replica{phone, laptop} {
		cart, err := replica.List[string](r, "cart")
		if err != nil || len(cart) != 2 || cart[0] != "bread" || cart[1] != "tea" {
			t.Errorf("cart %v, %v", cart, err)
		}
	}
}

// A network that goes down breaks off what is under way.
func TestServerGoesOffline(t *testing.T) {
	s := replicatest.NewServer(t)
	r := s.Replica("ann")
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	until := func(phase replica.Phase) {
		t.Helper()
		for st := range r.Statuses(t.Context()) {
			if st.Phase == phase {
				return
			}
		}
		t.Fatalf("phase %v did not come", phase)
	}
	until(replica.PhaseLive)
	s.SetOnline(false)
	until(replica.PhaseOffline)
	s.SetOnline(true)
	until(replica.PhaseLive)
	must(t, r.Close())
	if err := <-ended; err == nil {
		t.Fatal("Run has no error")
	}
}

func edit(t *testing.T, r *replica.Replica, f func(*replica.Tx)) {
	t.Helper()
	_, err := r.Update(func(tx *replica.Tx) error {
		f(tx)
		return nil
	})
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
