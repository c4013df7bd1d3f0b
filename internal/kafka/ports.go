package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken in blocks of blockPorts from a range below the one that systems
// give to outgoing connections (from 32768 on Linux). In that range the port of a
// broker that was killed could go to a client which tries to reach it: on
// loopback it may even connect to itself, and the broker could not start again.
const (
	portsFrom  = 20_000
	portsUntil = 32_000
	blockPorts = 8 // the claim, and two for each of three brokers
	portTries  = 200
)

// claimPorts returns n free ports, one after the other. Until claim is closed no
// other cluster, of this process or another, gets one of them, so that a broker
// which is down finds its own again.
func claimPorts(n int) (first int, claim net.Listener, err error) {
	for range portTries {
		base := portsFrom + blockPorts*rand.IntN((portsUntil-portsFrom)/blockPorts)
		claim, err = listen(base)
		if err != nil {
			continue
		}
		if err = probePorts(base+1, n); err == nil {
			return base + 1, claim, nil
		}
		_ = claim.Close() // nothing was accepted
	}
	return 0, nil, fmt.Errorf("no %d free ports from %d to %d: %w", n, portsFrom, portsUntil, err)
}

// probePorts tells whether all of n ports are free now.
func probePorts(first, n int) error {
	var errs []error
	for port := first; port < first+n; port++ {
		l, err := listen(port)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func listen(port int) (net.Listener, error) { return net.Listen("tcp", local(port)) } //nolint:noctx // it does not wait

// local is the address of a port on loopback.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
