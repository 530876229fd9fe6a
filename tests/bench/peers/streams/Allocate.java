import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The alternative in Kafka Streams: CreateBatch and Allocate as the allocator decides them, exactly_once_v2, its state in
 * RocksDB and in changelog topics, nothing in Postgres.
 *
 * <p>Arguments: brokers, topic prefix, commit interval in ms, stream threads, state directory.
 */
final class Allocate {
  static final String STOCK = "stock";
  static final String LINES = "lines";
  static final ObjectMapper JSON = JsonMapper.builder().build();

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Command(String orderid, String sku, String ref, int qty, String eta) {}

  record Event(
      String sku,
      long version,
      String commandid,
      String commandsource,
      int seq,
      boolean last,
      String orderid,
      Integer qty,
      String batchref,
      @JsonProperty("batch_qty") int batchQty,
      @JsonProperty("batch_available") int batchAvailable,
      String eta,
      long available) {}

  static final class Batch {
    String ref;
    String eta;
    int qty;
    int available;
  }

  /** What a SKU has, its batches in the order of preference. */
  static final class Stock {
    long version;
    long available;
    List<Batch> batches = new ArrayList<>();

    static byte[] write(Stock stock) {
      var bytes = new ByteArrayOutputStream(64);
      try (var out = new DataOutputStream(bytes)) {
        out.writeLong(stock.version);
        out.writeLong(stock.available);
        out.writeInt(stock.batches.size());
        for (Batch b : stock.batches) {
          out.writeUTF(b.ref);
          out.writeUTF(b.eta == null ? "" : b.eta);
          out.writeInt(b.qty);
          out.writeInt(b.available);
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      return bytes.toByteArray();
    }

    static Stock read(byte[] bytes) {
      var stock = new Stock();
      try (var in = new DataInputStream(new ByteArrayInputStream(bytes))) {
        stock.version = in.readLong();
        stock.available = in.readLong();
        for (int n = in.readInt(); n > 0; n--) {
          var b = new Batch();
          b.ref = in.readUTF();
          b.eta = in.readUTF();
          b.eta = b.eta.isEmpty() ? null : b.eta;
          b.qty = in.readInt();
          b.available = in.readInt();
          stock.batches.add(b);
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      return stock;
    }
  }

  static final class Decide implements Processor<String, byte[], String, byte[]> {
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, Stock> stocks;
    private KeyValueStore<String, String> lines;

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      stocks = context.getStateStore(STOCK);
      lines = context.getStateStore(LINES);
    }

    @Override
    public void process(Record<String, byte[]> record) {
      try {
        var command = JSON.readValue(record.value(), Command.class);
        if (header(record, "ce_type").endsWith(".CreateBatch")) {
          create(record, command);
        } else {
          allocate(record, command);
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }

    private void create(Record<String, byte[]> record, Command command) throws IOException {
      Stock stock = stocks.get(command.sku());
      if (stock == null) {
        stock = new Stock();
      }
      for (Batch b : stock.batches) {
        if (b.ref.equals(command.ref())) {
          return; // a repeat
        }
      }
      var b = new Batch();
      b.ref = command.ref();
      b.eta = command.eta();
      b.qty = b.available = command.qty();
      stock.batches.add(b);
      stock.batches.sort(Comparator.comparing((Batch x) -> x.eta == null ? "" : x.eta));
      stock.available += b.qty;
      publish(record, "BatchCreated", command, stock, b);
    }

    private void allocate(Record<String, byte[]> record, Command command) throws IOException {
      String line = command.orderid() + "/" + command.sku();
      Stock stock = stocks.get(command.sku());
      if (stock == null || lines.get(line) != null) {
        return; // the benchmark sends neither unknown SKUs nor repeats, and would miss the event
      }
      for (Batch b : stock.batches) {
        if (b.available >= command.qty()) {
          b.available -= command.qty();
          stock.available -= command.qty();
          lines.put(line, b.ref);
          publish(record, "Allocated", command, stock, b);
          return;
        }
      }
      throw new IllegalStateException("out of stock: " + command); // nor does it send such
    }

    private void publish(Record<String, byte[]> record, String type, Command command, Stock stock, Batch b) throws IOException {
      stock.version++;
      stocks.put(command.sku(), stock);
      var place = context.recordMetadata().orElseThrow();
      Headers headers = new RecordHeaders();
      add(headers, "ce_specversion", "1.0");
      add(headers, "ce_id", place.topic() + "/" + place.partition() + "/" + place.offset() + "/0");
      add(headers, "ce_source", "/bench/streams");
      add(headers, "ce_type", "lotline.event.v1." + type);
      boolean allocated = type.equals("Allocated");
      var event =
          new Event(command.sku(), stock.version, header(record, "ce_id"), header(record, "ce_source"), 0, true,
              allocated ? command.orderid() : null, allocated ? command.qty() : null, b.ref, b.qty, b.available, b.eta, stock.available);
      context.forward(new Record<>(record.key(), JSON.writeValueAsBytes(event), record.timestamp(), headers));
    }

    private static void add(Headers headers, String key, String value) {
      headers.add(key, value.getBytes(StandardCharsets.UTF_8));
    }

    private static String header(Record<String, byte[]> record, String key) {
      return new String(record.headers().lastHeader(key).value(), StandardCharsets.UTF_8);
    }
  }

  public static void main(String[] args) {
    String prefix = args[1];
    Serde<Stock> stockSerde = Serdes.serdeFrom((topic, stock) -> stock == null ? null : Stock.write(stock), (topic, bytes) -> bytes == null ? null : Stock.read(bytes));
    var topology = new Topology();
    topology
        .addSource("commands", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), prefix + ".commands")
        .addProcessor("decide", Decide::new, "commands")
        .addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STOCK), Serdes.String(), stockSerde).withCachingEnabled(), "decide")
        .addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(LINES), Serdes.String(), Serdes.String()).withCachingEnabled(), "decide")
        .addSink("events", prefix + ".events", Serdes.String().serializer(), Serdes.ByteArray().serializer(), "decide");
    var p = new Properties();
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + ".streams");
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Long.parseLong(args[2]));
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(args[3]));
    p.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 128L << 20);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6_000); // as the allocator has it
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 2_000);
    var streams = new KafkaStreams(topology, p);
    streams.setUncaughtExceptionHandler(e -> {
      e.printStackTrace();
      System.exit(1);
      return null;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }
}
