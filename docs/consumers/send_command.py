"""Sends a command: an UpdateRequest in JSON, for one user.

    pip install confluent-kafka
    python docs/consumers/send_command.py 127.0.0.1:9092 dalvdb \\
        ann '{"ops": [{"key": "visits", "increment": {"by": "1"}}]}'

Sent twice it is two commands: who sends again what may have been sent gives the
update a guard, or asks for what may be done twice, such as a put.
"""

import sys

from confluent_kafka import KafkaException, Producer


def main(brokers, prefix, user, update):
    producer = Producer({
        "bootstrap.servers": brokers,
        "enable.idempotence": True,  # and acks=all with it
        "partitioner": "murmur2_random",  # that of Java: commands of one user stay in order
    })
    answers = []
    # The user is the key, by which the partition is chosen.
    producer.produce(prefix + ".commands", key=user, value=update, headers={"content-type": "application/json"},
                     on_delivery=lambda error, record: answers.append((error, record)))
    producer.flush()
    error, record = answers[0]
    if error:
        raise KafkaException(error)
    print(f"{record.topic()}/{record.partition()}/{record.offset()}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: send_command.py BROKERS PREFIX USER UPDATE")
    main(*sys.argv[1:])
