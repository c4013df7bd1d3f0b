package kafka

import (
	"fmt"
	"strings"
)

// properties is the configuration of a broker among all, which is its own
// controller too. Its data is in "data" of its working directory: a path would have
// to be written in Latin-1 and without a comma.
func properties(b *broker, all []*broker) string {
	var voters []string
	for _, v := range all {
		voters = append(voters, fmt.Sprintf("%d@%s", v.id, v.controller))
	}
	copies := len(all)
	return fmt.Sprintf(template, b.id, b.addr, b.controller, strings.Join(voters, ","), copies, min(2, copies))
}

// Kafka's own topics have all copies and few partitions: 50 each are opened at
// every start, and copied. Its threads are for two cores, its cleaner for a small
// heap. Nobody has to wait for a group's second member, and a topic that nobody has
// made is an error.
const template = `process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[4]s
listeners=PLAINTEXT://%[2]s,CONTROLLER://%[3]s
advertised.listeners=PLAINTEXT://%[2]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
default.replication.factor=%[5]d
offsets.topic.replication.factor=%[5]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[5]d
transaction.state.log.min.isr=%[6]d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=%[5]d
share.coordinator.state.topic.min.isr=%[6]d
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
`
