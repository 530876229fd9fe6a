import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Sends commands to Lotline, with kafka-clients.
 *
 * <p>Each line of standard input is a command, as {@code lotline send} reads them:
 *
 * <pre>{"type":"Allocate","id":"a-1","orderid":"order-7","sku":"SMALL-TABLE","qty":3}</pre>
 */
final class Producer {
  static final String COMMANDS =
      Objects.requireNonNullElse(System.getenv("LOTLINE_KAFKA_TOPIC_PREFIX"), "lotline") + ".commands";

  /** The default partitioner keeps a SKU's commands in order, and defaults lose, double and reorder nothing. */
  static KafkaProducer<String, String> connect() {
    String brokers = Objects.requireNonNullElse(System.getenv("LOTLINE_KAFKA_BROKERS"), "127.0.0.1:9092");
    return new KafkaProducer<>(
        Map.of("bootstrap.servers", brokers), new StringSerializer(), new StringSerializer());
  }

  /** Lotline knows a repeat by its id: choose one that stays the same when the same order is sent again. */
  static ProducerRecord<String, String> record(String type, String id, JsonObject data) {
    var record = new ProducerRecord<>(COMMANDS, data.get("sku").getAsString(), data.toString());
    Map.of(
            "ce_specversion", "1.0",
            "ce_id", id,
            "ce_source", "/shop/java",
            "ce_type", "lotline.command.v1." + type,
            "content-type", "application/json")
        .forEach((name, value) -> record.headers().add(name, value.getBytes(StandardCharsets.UTF_8)));
    return record;
  }

  public static void main(String[] args) throws Exception {
    var failure = new AtomicReference<Exception>();
    try (var producer = connect();
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line; (line = lines.readLine()) != null; ) {
        JsonObject data = JsonParser.parseString(line).getAsJsonObject();
        String type = data.remove("type").getAsString();
        String id = data.remove("id").getAsString();
        producer.send(record(type, id, data), (metadata, error) -> failure.compareAndSet(null, error));
      }
    }
    if (failure.get() != null) { // after all retries: a command was not sent, and somebody has to know
      throw failure.get();
    }
  }
}
