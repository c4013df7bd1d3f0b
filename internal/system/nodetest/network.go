package nodetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"time"
)

// A cable is all connections to one process, which a power cut cuts at once.
type cable struct {
	mu     sync.RWMutex
	isDead bool
	conns  []net.Conn
}

var errCut = errors.New("power was cut")

// cut returns when nothing is read any more of what the process has sent.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isDead = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func (c *cable) dead() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.isDead
}

func (c *cable) add(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDead {
		return nil, errors.Join(errCut, conn.Close())
	}
	c.conns = append(c.conns, conn)
	return cableConn{conn, c}, nil
}

// cableConn gives nothing to its reader that came after the cut.
type cableConn struct {
	net.Conn
	cable *cable
}

func (c cableConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cable.dead() {
		return 0, errCut
	}
	return n, err
}

// The hosts by which clients know the two ports, wherever they are.
const (
	deviceHost  = "device.test"
	backendHost = "backend.test"
)

// dial connects to a port of the process that runs now.
func (n *Node) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	if p == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the node does not run")}
	}
	to := p.devices
	if host, _, _ := net.SplitHostPort(addr); host == backendHost {
		to = p.backend
	}
	c, err := new(net.Dialer).DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	return p.cable.add(c)
}

// newCertificate returns a certificate for both hosts that vouches for itself.
func newCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{deviceHost, backendHost}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
