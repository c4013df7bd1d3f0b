"""Reads the topic of the changes from its beginning, and prints each change once:
user, headers and value, with tabs between them.

    pip install confluent-kafka
    python docs/consumers/read_changes.py 127.0.0.1:9092 dalvdb

It runs until it is stopped; with --until-end it ends where the topic ends.
"""

import base64
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

# The greatest offset that was handled, by log and partition. A consumer whose work
# shall take effect once keeps this where its work is, and writes both in one
# transaction; then it needs no group, and begins with what it has kept.
handled = {}


def main(brokers, prefix, until_end=False):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": "unused",  # the client wants one; with assign it joins none
        "enable.auto.commit": False,
        "enable.partition.eof": until_end,
        "fetch.message.max.bytes": 8 << 20,  # the largest change
    })
    topic = prefix + ".changes"
    known = consumer.list_topics(topic, timeout=30).topics[topic]
    if known.error:
        raise KafkaException(known.error)
    left = set(known.partitions)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
    while left:
        record = consumer.poll(1)
        if record is None:
            continue
        if record.error():
            if record.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(record.error())
            left.discard(record.partition())
            continue
        headers = {name: value.decode() for name, value in record.headers()}
        if is_new(headers):
            print(record.key().decode(), show(headers), text(headers, record.value()), sep="\t", flush=True)
    consumer.close()


def is_new(headers):
    """Says whether a change comes for the first time. After a failure some come again."""
    partition = headers["dalvdb-log"], headers["dalvdb-partition"]
    offset = int(headers["dalvdb-offset"])
    if offset <= handled.get(partition, -1):
        return False
    handled[partition] = offset  # when the work is done
    return True


def show(headers):
    return ",".join(name + "=" + value for name, value in headers.items())


def text(headers, value):
    """Returns the ChangeEvent, which is in the form that the header says."""
    if headers["content-type"] == "application/json":
        return value.decode()  # json.loads takes it from here
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: read_changes.py BROKERS PREFIX [--until-end]")
    main(sys.argv[1], sys.argv[2], "--until-end" in sys.argv[3:])
