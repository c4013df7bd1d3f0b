// Reads the topic of the changes from its beginning, and prints each change once:
// user, headers and value, with tabs between them. It needs Java 17 and the jars of
// org.apache.kafka:kafka-clients:
//
//   java -cp 'bin/kafka/HASH/*' docs/consumers/ReadChanges.java 127.0.0.1:9092 dalvdb
//
// It runs until it is stopped; with --until-end it ends where the topic ended when it began.

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

public class ReadChanges {
    // The greatest offset that was handled, by log and partition. A consumer whose work
    // shall take effect once keeps this where its work is, and writes both in one
    // transaction; then it needs no group, and begins with what it has kept.
    private final Map<String, Long> handled = new HashMap<>();

    public static void main(String[] args) {
        if (args.length < 2) {
            System.err.println("usage: ReadChanges BROKERS PREFIX [--until-end]");
            System.exit(2);
        }
        boolean untilEnd = args.length > 2 && args[2].equals("--until-end");
        Map<String, Object> config = Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0],
            ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 8 << 20); // the largest change
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer())) {
            new ReadChanges().run(consumer, args[1] + ".changes", untilEnd);
        }
    }

    private final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    void run(KafkaConsumer<String, byte[]> consumer, String topic, boolean untilEnd) {
        List<TopicPartition> all = consumer.partitionsFor(topic).stream()
            .map(p -> new TopicPartition(p.topic(), p.partition())).toList();
        consumer.assign(all);
        consumer.seekToBeginning(all);
        Map<TopicPartition, Long> ends = consumer.endOffsets(all);
        while (!untilEnd || ends.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue())) {
            for (var change : consumer.poll(Duration.ofSeconds(1))) {
                if (isNew(change)) {
                    out.println(change.key() + "\t" + headers(change) + "\t" + value(change));
                }
            }
        }
    }

    // isNew says whether a change comes for the first time. After a failure some come again.
    boolean isNew(ConsumerRecord<String, byte[]> change) {
        String partition = header(change, "dalvdb-log") + "/" + header(change, "dalvdb-partition");
        long offset = Long.parseLong(header(change, "dalvdb-offset"));
        Long last = handled.get(partition);
        if (last != null && offset <= last) {
            return false;
        }
        handled.put(partition, offset); // when the work is done
        return true;
    }

    static String header(ConsumerRecord<?, ?> record, String name) {
        return new String(record.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
    }

    static String headers(ConsumerRecord<?, ?> record) {
        var all = new StringJoiner(",");
        for (Header h : record.headers()) {
            all.add(h.key() + "=" + new String(h.value(), StandardCharsets.UTF_8));
        }
        return all.toString();
    }

    // value is a ChangeEvent, in the form that the header says.
    static String value(ConsumerRecord<?, byte[]> change) {
        return header(change, "content-type").equals("application/json")
            ? new String(change.value(), StandardCharsets.UTF_8)
            : Base64.getEncoder().encodeToString(change.value());
    }
}
