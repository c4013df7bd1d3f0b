package main

import (
	"crypto/tls"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// reloadEvery is how often files that may be replaced are looked at. Looking
// costs a system call each, and works where notifications do not: on network
// file systems, and for files that an orchestrator mounts.
const reloadEvery = time.Second

// watchFile calls reload when one of the files has changed, or at SIGHUP (asked),
// until the node stops. What reload cannot read is logged, and what was read
// before stays.
func (n *node) watchFile(reload func(asked bool) error, files ...string) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	last := looksOf(files)
	n.reload.Go(func() {
		defer signal.Stop(hup)
		tick := time.NewTicker(reloadEvery)
		defer tick.Stop()
		for {
			asked := false
			select {
			case <-n.reloading.Done():
				return
			case <-hup:
				asked = true
			case <-tick.C:
			}
			now := looksOf(files)
			if now == last && !asked {
				continue
			}
			last = now
			if err := reload(asked); err != nil {
				n.logger.Error("not read again: what was read before goes on", "files", files, "err", err)
			}
		}
	})
}

// look is what tells one version of a file from the next.
type look struct {
	size    int64
	changed time.Time
	inode   uint64
}

// looksOf returns the looks of up to two files.
func looksOf(files []string) (looks [2]look) {
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // gone, which is a look of its own
		}
		looks[i] = look{size: info.Size(), changed: info.ModTime()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			looks[i].inode = st.Ino
		}
	}
	return looks
}

// loadCertificate returns the TLS configuration that the flags ask for, nil for
// none. New connections get the certificate that the files hold then.
func (n *node) loadCertificate() (*tls.Config, error) {
	if n.settings.tlsCert == "" {
		return nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	load := func() error {
		c, err := tls.LoadX509KeyPair(n.settings.tlsCert, n.settings.tlsKey)
		if err == nil {
			current.Store(&c)
		}
		return err
	}
	if err := load(); err != nil {
		return nil, usageError("--tls-cert: %w", err)
	}
	n.watchFile(func(bool) error {
		if err := load(); err != nil {
			return err
		}
		n.logger.Info("the certificate was read again")
		return nil
	}, n.settings.tlsCert, n.settings.tlsKey)
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}, nil
}
