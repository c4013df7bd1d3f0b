package process_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A grant is what docs/kafka.md says that somebody needs.
type grant struct {
	topic, group string
	operation    kmsg.ACLOperation
}

// nodeGrants are those of a node. To read or to write is to describe, too.
var nodeGrants = []grant{
	{topic: "dalvdb.events", operation: kmsg.ACLOperationRead},
	{topic: "dalvdb.events", operation: kmsg.ACLOperationWrite},
	{topic: "dalvdb.events", operation: kmsg.ACLOperationDescribeConfigs},
	{topic: "dalvdb.changes", operation: kmsg.ACLOperationRead},
	{topic: "dalvdb.changes", operation: kmsg.ACLOperationWrite},
	{topic: "dalvdb.changes", operation: kmsg.ACLOperationDescribeConfigs},
	{group: "dalvdb.changes", operation: kmsg.ACLOperationRead},
	{topic: "dalvdb.commands", operation: kmsg.ACLOperationRead},
	{group: "dalvdb.commands", operation: kmsg.ACLOperationRead},
	{topic: "dalvdb.commands.poison", operation: kmsg.ACLOperationWrite},
}

// A node that may do what the documents say, and nothing else, on brokers that look,
// writes and reads its log, feeds the changes and takes commands, and goes on with all
// that when it starts again. (One who is not
// authenticated is ANONYMOUS to Kafka, and has rights like others.)
func TestNodeNeedsNoMoreThanItsGrants(t *testing.T) {
	if testing.Short() {
		t.Skip("it is about brokers of its own, and nothing that is raced")
	}
	b := onBrokers(t, kafkatest.StartIn(t, kafka.Options{Brokers: 1, Dir: t.TempDir(), ShortLived: true, More: `
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
`}))
	b.makeTopics(feedPartitions)
	publisher := newPublisher(t, b.Addrs())
	ask := &asking{t: t, publisher: publisher}
	ask.ask("ann", events.Put("theme", events.Text("dark")), events.Increment("theme", 1)) // for the poison topic
	ask.ask("ann", events.Increment("n", 1))
	give(t, b.admin, nodeGrants...)

	n := b.node()
	n.start()
	increments(t, n, 2)
	await(t, "commands take effect or are poison", func() bool {
		told := metrics(t, n)
		return strings.Contains(told, `dalvdb_commands_total{outcome="accepted"} 1`) && strings.Contains(told, `dalvdb_commands_total{outcome="refused"} 1`)
	})
	stopUnrefused(t, n)
	n.start()
	increments(t, n, 1)
	stopUnrefused(t, n)
}

// stopUnrefused stops the node, to which nothing may have been refused.
func stopUnrefused(t *testing.T, n *node) {
	t.Helper()
	n.stop()
	if said := n.current().log.String(); strings.Contains(said, "AUTHORIZATION_FAILED") {
		t.Errorf("something was refused:\n%s", said)
	}
}

// increments has an increment accepted, and waits until so many changes are fed.
func increments(t *testing.T, n *node, fed int) {
	t.Helper()
	shop := newClients(n).sdk("shop")
	v, err := shop.Update(brief(t), "ann", backend.Update{Ops: []events.Op{events.Increment("n", 1)}})
	if err != nil || v.Outcome != events.Accepted {
		t.Fatalf("%v, %v", v, err)
	}
	await(t, "the changes are fed", func() bool {
		told := metrics(t, n)
		return strings.Contains(told, fmt.Sprintf("dalvdb_feed_records_total %d\n", fed)) && strings.Contains(told, "dalvdb_feed_failing_partitions 0")
	})
}

// give lets everybody do what is granted, and with these topics and groups nothing else.
func give(t *testing.T, admin *kadm.Client, grants ...grant) {
	t.Helper()
	for _, g := range grants {
		acl := kadm.NewACLs().Allow("User:*").AllowHosts("*").Operations(g.operation).ResourcePatternType(kadm.ACLPatternLiteral)
		if g.group != "" {
			acl = acl.Groups(g.group)
		} else {
			acl = acl.Topics(g.topic)
		}
		made, err := admin.CreateACLs(brief(t), acl)
		must(t, err)
		for _, m := range made {
			must(t, m.Err)
		}
	}
}
