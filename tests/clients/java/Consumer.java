import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Handles Lotline's events, each exactly once, with kafka-clients and Postgres.
 *
 * <p>It keeps the notes of a packing station (../consumer.sql) in the database that DATABASE_URL names.
 */
final class Consumer {
  static final String EVENTS =
      Objects.requireNonNullElse(System.getenv("LOTLINE_KAFKA_TOPIC_PREFIX"), "lotline") + ".events";

  final Connection db;

  Consumer(Connection db) throws SQLException {
    this.db = db;
    db.setAutoCommit(false);
  }

  /** Does an event's work once, however often the event comes: the work and its mark are one transaction. */
  void handle(String type, JsonObject event) throws SQLException {
    String sku = event.get("sku").getAsString();
    long version = event.get("version").getAsLong();
    long handled = lock(sku);
    if (version > handled + 1) {
      throw new IllegalStateException(
          "a hole: %s is handled up to version %d, and %d is next".formatted(sku, handled, version));
    }
    if (version > handled) { // else it is a repeat
      work(type, event);
      execute("UPDATE handled SET version = ? WHERE sku = ?", version, sku);
    }
    db.commit();
  }

  /**
   * The SKU's row, made if it is its first event, and held until the transaction ends: another consumer that believes it
   * owns the same partition waits here, and then sees what was done.
   */
  long lock(String sku) throws SQLException {
    try (var statement =
        db.prepareStatement(
            "INSERT INTO handled VALUES (?, 0)"
                + " ON CONFLICT (sku) DO UPDATE SET version = handled.version RETURNING version")) {
      statement.setString(1, sku);
      try (var rows = statement.executeQuery()) {
        rows.next();
        return rows.getLong(1);
      }
    }
  }

  /** Yours goes here. What cannot be part of the transaction, such as a letter, is written down in it and sent later. */
  void work(String type, JsonObject event) throws SQLException {
    int sign =
        switch (type) {
          case "Allocated" -> 1;
          case "Deallocated" -> -1;
          default -> 0; // nothing to pack; the version is marked all the same
        };
    if (sign != 0) {
      execute(
          "INSERT INTO notes (sku, batchref, orderid, units) VALUES (?, ?, ?, ?)",
          event.get("sku").getAsString(),
          event.get("batchref").getAsString(),
          event.get("orderid").getAsString(),
          sign * event.get("qty").getAsInt());
    }
  }

  /** A command that changed nothing is answered without a version of its own; the answer's ce_id tells a repeat. */
  void handleAnswer(String id, JsonObject event) throws SQLException {
    execute(
        "INSERT INTO refusals VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        id,
        event.get("commandid").getAsString(),
        event.get("reason").getAsString(),
        event.get("message").getAsString());
    db.commit();
  }

  void execute(String sql, Object... values) throws SQLException {
    try (var statement = db.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        statement.setObject(i + 1, values[i]);
      }
      statement.executeUpdate();
    }
  }

  void handle(ConsumerRecord<String, String> record) throws SQLException {
    JsonObject event = JsonParser.parseString(record.value()).getAsJsonObject();
    String type = header(record, "ce_type").replace("lotline.event.v1.", "");
    if (type.equals("CommandIgnored") || type.equals("CommandRejected")) {
      handleAnswer(header(record, "ce_id"), event);
    } else {
      handle(type, event);
    }
  }

  static String header(ConsumerRecord<String, String> record, String name) {
    return new String(record.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
  }

  static Map<String, Object> config() {
    return Map.of(
        "bootstrap.servers", Objects.requireNonNullElse(System.getenv("LOTLINE_KAFKA_BROKERS"), "127.0.0.1:9092"),
        "group.id", Objects.requireNonNullElse(System.getenv("GROUP_ID"), "lotline.consumer.packing"),
        // Events of transactions that were aborted did not happen; Java's default is to read them.
        "isolation.level", "read_committed",
        // Where a new group begins: with the oldest event, or each SKU would begin with a hole.
        "auto.offset.reset", "earliest",
        "enable.auto.commit", "false",
        // How long the partitions of a consumer that was killed wait for another.
        "session.timeout.ms", "6000",
        "heartbeat.interval.ms", "2000");
  }

  public static void main(String[] args) throws Exception {
    try (var db = DriverManager.getConnection(System.getenv("DATABASE_URL"));
        var events = new KafkaConsumer<>(config(), new StringDeserializer(), new StringDeserializer())) {
      Thread main = Thread.currentThread();
      Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(events, main)));
      var consumer = new Consumer(db);
      events.subscribe(List.of(EVENTS));
      while (true) {
        for (var record : events.poll(Duration.ofSeconds(1))) {
          consumer.handle(record);
        }
        // After the work, never before. A commit that is lost costs repeats, which are skipped.
        events.commitAsync();
      }
    } catch (WakeupException e) {
      // A signal asked it to stop, and it has left the group.
    }
  }

  static void stop(KafkaConsumer<?, ?> events, Thread main) {
    events.wakeup();
    try {
      main.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
