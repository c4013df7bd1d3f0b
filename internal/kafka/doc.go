// Package kafka runs Apache Kafka on this machine, for tests and for people who
// try things: real brokers as plain Java processes, without containers.
//
// In comes a directory and how many brokers are wanted, one or three. The server
// itself is what deploy/kafka/pom.xml names; it is fetched once, with Maven, and
// kept in bin/kafka.
//
// Out comes a [Cluster] that answers: every broker lists all of them and a
// controller. Each can be stopped, killed as with kill -9, and started again on
// the port it had. [Java] runs programs written against Kafka's own clients.
//
// It promises that no broker outlives this process, however that ends (on Linux;
// elsewhere one is left behind by a process that is killed with -9), that Close
// returns when all have ended, and that the directory can be started again. Several
// processes may fetch and start at the same time. Every wait has a limit.
//
// It refuses to be a production broker: all listen on loopback, in plain text, with
// small heaps and few threads. It makes no topics, and no production package
// imports it.
package kafka
