package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// kafkaSettings say how Kafka is spoken to. They are flags of every verb that does.
type kafkaSettings struct {
	brokers []string
	prefix  string

	tls  bool
	ca   string // file
	cert string // file
	key  string // file

	sasl       string
	user       string
	secretFile string // password or token
}

// The mechanisms of SASL.
const (
	saslNone   = "none"
	saslPlain  = "plain"
	scram256   = "scram-sha-256"
	scram512   = "scram-sha-512"
	saslBearer = "oauthbearer"
)

func (k *kafkaSettings) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&k.brokers, "brokers", nil, "`ADDR`s of Kafka's brokers, a few of them")
	f.StringVar(&k.prefix, "topic-prefix", "dalvdb", "`NAME` that the topics in Kafka begin with")
	f.BoolVar(&k.tls, "kafka-tls", false, "speak TLS with Kafka")
	f.StringVar(&k.ca, "kafka-ca", "", "authorities of Kafka's certificates, PEM `FILE`; else those of this machine")
	f.StringVar(&k.cert, "kafka-cert", "", "certificate for Kafka to know us by, PEM `FILE`")
	f.StringVar(&k.key, "kafka-key", "", "its private key, PEM `FILE`")
	f.Var(newChoice(&k.sasl, saslNone, saslNone, saslPlain, scram256, scram512, saslBearer), "kafka-sasl", "how Kafka is told who we are")
	f.StringVar(&k.user, "kafka-user", "", "`NAME` for plain and scram")
	f.StringVar(&k.secretFile, "kafka-secret", "", "`FILE` with the password, or the token of oauthbearer; read at each connection")
}

// given returns the flags that were set, of those that only Kafka has a use for.
func (k *kafkaSettings) given() (names []string) {
	for name, set := range map[string]bool{
		"brokers": len(k.brokers) > 0, "kafka-tls": k.tls, "kafka-ca": k.ca != "", "kafka-cert": k.cert != "", "kafka-key": k.key != "",
		"kafka-sasl": k.authenticates(), "kafka-user": k.user != "", "kafka-secret": k.secretFile != "",
	} {
		if set {
			names = append(names, "--"+name)
		}
	}
	return names
}

// args returns the flags that say the same to another process.
func (k *kafkaSettings) args() (args []string) {
	add := func(flag, value string) {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	add("brokers", strings.Join(k.brokers, ","))
	add("topic-prefix", k.prefix)
	if k.tls {
		add("kafka-tls", "true")
	}
	add("kafka-ca", k.ca)
	add("kafka-cert", k.cert)
	add("kafka-key", k.key)
	if k.authenticates() {
		add("kafka-sasl", k.sasl)
	}
	add("kafka-user", k.user)
	add("kafka-secret", k.secretFile)
	return args
}

func (k *kafkaSettings) authenticates() bool { return k.sasl != "" && k.sasl != saslNone }

func (k *kafkaSettings) validate() error {
	switch named := k.sasl == saslPlain || k.sasl == scram256 || k.sasl == scram512; {
	case len(k.brokers) == 0:
		return usageError("--brokers: want the address of a broker, such as 127.0.0.1:9092")
	case k.prefix == "":
		return usageError("--topic-prefix: want a name")
	case !k.tls && (k.ca != "" || k.cert != "" || k.key != ""):
		return usageError("--kafka-ca, --kafka-cert and --kafka-key go with --kafka-tls")
	case (k.cert == "") != (k.key == ""):
		return usageError("--kafka-cert and --kafka-key go together")
	case named != (k.user != ""):
		return usageError("--kafka-user goes with --kafka-sasl plain, scram-sha-256 or scram-sha-512")
	case k.authenticates() != (k.secretFile != ""):
		return usageError("--kafka-sasl and --kafka-secret go together")
	}
	return nil
}

// client returns how a client speaks to Kafka.
func (k *kafkaSettings) client() ([]kgo.Opt, error) {
	var opts []kgo.Opt
	if k.tls {
		cfg, err := k.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if k.authenticates() {
		if _, err := k.secret(); err != nil { // said now, and not by a client that cannot connect
			return nil, err
		}
	}
	switch k.sasl {
	case saslPlain:
		opts = append(opts, kgo.SASL(saslplain.Plain(func(context.Context) (saslplain.Auth, error) {
			secret, err := k.secret()
			return saslplain.Auth{User: k.user, Pass: secret}, err
		})))
	case scram256:
		opts = append(opts, kgo.SASL(scram.Sha256(k.scram)))
	case scram512:
		opts = append(opts, kgo.SASL(scram.Sha512(k.scram)))
	case saslBearer:
		opts = append(opts, kgo.SASL(oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			secret, err := k.secret()
			return oauth.Auth{Token: secret}, err
		})))
	}
	return opts, nil
}

func (k *kafkaSettings) scram(context.Context) (scram.Auth, error) {
	secret, err := k.secret()
	return scram.Auth{User: k.user, Pass: secret}, err
}

// secret reads the password or token, which may have been replaced since.
func (k *kafkaSettings) secret() (string, error) {
	raw, err := os.ReadFile(k.secretFile)
	if err != nil {
		return "", usageError("--kafka-secret: %w", err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" {
		return "", usageError("--kafka-secret: %s is empty", k.secretFile)
	}
	return secret, nil
}

func (k *kafkaSettings) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.ca != "" {
		pem, err := os.ReadFile(k.ca)
		if err != nil {
			return nil, usageError("--kafka-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError("--kafka-ca: %s has no certificate in PEM", k.ca)
		}
	}
	if k.cert != "" {
		pair, err := tls.LoadX509KeyPair(k.cert, k.key)
		if err != nil {
			return nil, usageError("--kafka-cert: %w", errors.Join(err, fmt.Errorf("of %s and %s", k.cert, k.key)))
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
