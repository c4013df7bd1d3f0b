// Package commands carries out what services ask for through a topic of Kafka.
//
// What comes in: the messages of <prefix>.commands, in which any service, in any
// language, asks for an event of one user, who is the message's key.
//
// What goes out: events, submitted as any other; and to <prefix>.commands.poison
// each command that did not take effect, as it came, with what was said of it.
//
// What it promises:
//
//   - A command takes effect once, however often it is delivered, to whichever node,
//     after whatever crash: its event is named by its place, which is the topic's id,
//     the partition and the offset, and the fold knows such names for ever. A topic
//     that is deleted and made again has another id, and begins anew.
//   - The commands of a partition are carried out in order, one at a time. The next
//     waits until this one was decided, and if it did not take effect until the
//     poison topic has it. As long as no verdict is known it is submitted again
//     and again, under the same name.
//   - Every command that was rejected, refused or could not be read is in the poison
//     topic, at least once.
//   - Brokers that are away, topics that are missing and a log that takes nothing
//     are waited for. Nothing of that ends Run.
//
// What it refuses to do: answer. Who must know what became of a command reads the
// changes, or asks for it through the API instead. Nor does it know how commands are
// written: that is told by who makes a Router.
package commands
