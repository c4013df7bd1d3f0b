package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaFlags returns the settings that a command line comes to.
func kafkaFlags(t *testing.T, args ...string) *kafkaSettings {
	t.Helper()
	cmd, k := new(cobra.Command), new(kafkaSettings)
	k.flags(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return k
}

// reaches returns the error of a client that speaks to brokers as it was told.
func reaches(t *testing.T, args ...string) error {
	t.Helper()
	k := kafkaFlags(t, args...)
	if err := k.validate(); err != nil {
		return err
	}
	opts, err := k.client()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.brokers...), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return client.Ping(ctx)
}

func fakeKafka(t *testing.T, opts ...kfake.Opt) (brokers string) {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return strings.Join(c.ListenAddrs(), ",")
}

// Brokers are known by their certificate, and know us by ours.
func TestKafkaTLS(t *testing.T) {
	dir := t.TempDir()
	s := settings{tlsCert: filepath.Join(dir, "cert.pem"), tlsKey: filepath.Join(dir, "key.pem")}
	cert := writeCertificate(t, s, 1)
	pair, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	known.AddCert(cert)
	brokers := fakeKafka(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known, MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS12, // in which a client that is refused is told so at once
	}))
	all := []string{"--brokers", brokers, "--kafka-tls", "--kafka-ca", s.tlsCert, "--kafka-cert", s.tlsCert, "--kafka-key", s.tlsKey}
	if err := reaches(t, all...); err != nil {
		t.Error(err)
	}
	for _, less := range [][]string{all[:2], all[:3], all[:5]} {
		if reaches(t, less...) == nil {
			t.Errorf("%v is enough", less)
		}
	}
}

// Brokers are told who we are, with a secret that is read at each connection.
func TestKafkaSASL(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for flag, mechanism := range map[string]string{saslPlain: "PLAIN", scram256: "SCRAM-SHA-256", scram512: "SCRAM-SHA-512"} {
		brokers := fakeKafka(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "dalvdb", "word"))
		args := []string{"--brokers", brokers, "--kafka-sasl", flag, "--kafka-user", "dalvdb", "--kafka-secret", secret}
		write("word\n")
		if err := reaches(t, args...); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
		write("another")
		if reaches(t, args...) == nil {
			t.Errorf("%s: any password is good", flag)
		}
		if reaches(t, "--brokers", brokers) == nil {
			t.Errorf("%s: none is asked for", flag)
		}
	}
}

func TestKafkaFlagsThatDoNotGoTogether(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--brokers", "k:9092", "--kafka-ca", "ca.pem"},
		{"--brokers", "k:9092", "--kafka-tls", "--kafka-cert", "cert.pem"},
		{"--brokers", "k:9092", "--kafka-sasl", "plain", "--kafka-secret", "file"},
		{"--brokers", "k:9092", "--kafka-sasl", "oauthbearer"},
		{"--brokers", "k:9092", "--kafka-sasl", "oauthbearer", "--kafka-secret", "file", "--kafka-user", "dalvdb"},
		{"--brokers", "k:9092", "--kafka-secret", "file"},
	} {
		if err := kafkaFlags(t, args...).validate(); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}
