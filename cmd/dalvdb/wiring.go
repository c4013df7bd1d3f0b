package main

import (
	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	"github.com/dalvdb/dalvdb/events/pebblelog"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

// What each part of a node is told. All that flags say to a package passes
// through here, where it can be looked at without a node that runs.

func (n *node) logOptions() pebblelog.Options {
	return pebblelog.Options{
		Dir: logDir(n.settings.data), Partitions: n.settings.partitions, Now: n.settings.now, Logger: n.logger,
	}
}

func (n *node) kafkaOptions() (kafkalog.Options, error) {
	k := &n.settings.kafka
	client, err := k.client()
	return kafkalog.Options{
		Brokers: k.brokers, Prefix: k.prefix, Partitions: n.settings.partitions, AllowWeakTopics: n.settings.weakTopics,
		Client: client, Hooks: n.kafkaHooks, Now: n.settings.now, Logger: n.logger,
	}, err
}

func (n *node) stateConfig() projector.Config {
	return projector.Config{
		Log: n.log, Dir: stateDir(n.settings.data), TombstonesKeep: n.settings.tombstones, Logger: n.logger,
		Continues: n.settings.log == kafkaLog,
	}
}

func (n *node) trustConfig(keys auth.Keys) auth.Config {
	return auth.Config{
		Keys: keys, JWKSURL: n.settings.jwksURL, Issuer: n.settings.issuer, Audience: n.settings.audience,
		UserClaim: n.settings.userClaim, Logger: n.logger, OnUnknownKey: n.unknownKey,
	}
}

func (n *node) ingestConfig() ingest.Config {
	return ingest.Config{WriteTimeout: n.settings.writeTimeout, Now: n.settings.now}
}

func (n *node) edgeConfig(submit connectapi.Submitter) connectapi.Config {
	cfg := connectapi.Config{
		Submitter: submit, State: n.state, Verifier: n.verifier, Ready: n.ready, Contact: n.contact,
		Registry: n.registry, Tracer: n.tracer(), Logger: n.logger, CORSOrigins: n.settings.corsOrigins,
	}
	if n.embedded != nil {
		cfg.Backup = n.embedded
	}
	return cfg
}
