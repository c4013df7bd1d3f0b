// Sends a command: an UpdateRequest in JSON, for one user. It needs Java 17 and the
// jars of org.apache.kafka:kafka-clients:
//
//   java -cp 'bin/kafka/HASH/*' docs/consumers/SendCommand.java 127.0.0.1:9092 dalvdb \
//     ann '{"ops": [{"key": "visits", "increment": {"by": "1"}}]}'
//
// Sent twice it is two commands: who sends again what may have been sent gives the
// update a guard, or asks for what may be done twice, such as a put.

import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class SendCommand {
    public static void main(String[] args) throws Exception {
        if (args.length != 4) {
            System.err.println("usage: SendCommand BROKERS PREFIX USER UPDATE");
            System.exit(2);
        }
        // Both are the defaults since Kafka 3.0, and what a command relies on.
        Map<String, Object> config = Map.of(
            ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0],
            ProducerConfig.ACKS_CONFIG, "all",
            ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true);
        // The user is the key, by which the partition is chosen: commands of one user stay in order.
        var command = new ProducerRecord<String, String>(args[1] + ".commands", args[2], args[3]);
        command.headers().add("content-type", "application/json".getBytes(StandardCharsets.UTF_8));
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            var place = producer.send(command).get();
            System.out.println(place.topic() + "/" + place.partition() + "/" + place.offset());
        }
    }
}
