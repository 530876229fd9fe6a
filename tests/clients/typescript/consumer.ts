// Handles Lotline's events, each exactly once, with kafkajs and Postgres.
//
// It keeps the notes of a packing station (../consumer.sql) in the database that DATABASE_URL names.

import kafkajs, { type KafkaMessage } from "kafkajs";
import snappy from "kafkajs-snappy";
import pg from "pg";

// Lotline's events are compressed with Snappy, which kafkajs leaves to a package of its own.
kafkajs.CompressionCodecs[kafkajs.CompressionTypes.Snappy] = snappy;

const events = `${process.env.LOTLINE_KAFKA_TOPIC_PREFIX ?? "lotline"}.events`;

type Event = {
  ce_id: string;
  type: string;
  sku: string;
  version: number;
  commandid: string;
  orderid: string;
  batchref: string;
  qty: number;
  reason: string;
  message: string;
};

// A version is missing: an event was not read, and going on would hide that. Trying again would not help.
class Hole extends kafkajs.KafkaJSNonRetriableError {}

// Does an event's work once, however often the event comes: the work and its mark are one transaction.
async function handle(event: Event): Promise<void> {
  await transaction(async () => {
    const handled = Number((await db.query(lock, [event.sku])).rows[0].version);
    if (event.version <= handled) return; // a repeat
    if (event.version > handled + 1) {
      throw new Hole(`${event.sku} is handled up to version ${handled}, and ${event.version} is next`);
    }
    await work(event);
    await db.query("UPDATE handled SET version = $1 WHERE sku = $2", [event.version, event.sku]);
  });
}

// The SKU's row, made if it is its first event, and held until the transaction ends: another consumer that believes it
// owns the same partition waits here, and then sees what was done.
const lock = `INSERT INTO handled VALUES ($1, 0)
  ON CONFLICT (sku) DO UPDATE SET version = handled.version RETURNING version`;

// Yours goes here. What cannot be part of the transaction, such as a letter, is written down in it and sent later.
async function work(event: Event): Promise<void> {
  const units = { Allocated: event.qty, Deallocated: -event.qty }[event.type];
  if (units === undefined) return; // nothing to pack; the version is marked all the same
  await db.query("INSERT INTO notes (sku, batchref, orderid, units) VALUES ($1, $2, $3, $4)", [
    event.sku,
    event.batchref,
    event.orderid,
    units,
  ]);
}

// A command that changed nothing is answered without a version of its own; the answer's ce_id tells a repeat.
async function handleAnswer(event: Event): Promise<void> {
  await db.query("INSERT INTO refusals VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", [
    event.ce_id,
    event.commandid,
    event.reason,
    event.message,
  ]);
}

async function transaction(body: () => Promise<void>): Promise<void> {
  await db.query("BEGIN");
  try {
    await body();
    await db.query("COMMIT");
  } catch (error) {
    await db.query("ROLLBACK");
    throw error;
  }
}

function read({ headers, value }: KafkaMessage): Event {
  return {
    ...JSON.parse(String(value)),
    ce_id: String(headers?.ce_id),
    type: String(headers?.ce_type).replace("lotline.event.v1.", ""),
  };
}

const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
const kafka = new kafkajs.Kafka({ brokers: (process.env.LOTLINE_KAFKA_BROKERS ?? "127.0.0.1:9092").split(",") });
const consumer = kafka.consumer({
  groupId: process.env.GROUP_ID ?? "lotline.consumer.packing",
  // Events of transactions that were aborted did not happen.
  readUncommitted: false,
  // How long the partitions of a consumer that was killed wait for another.
  sessionTimeout: 6000,
  // How long the broker may wait for events before it answers, and so how long a stop may take.
  maxWaitTimeInMs: 1000,
});
consumer.on(consumer.events.CRASH, ({ payload }) => {
  if (!payload.restart) process.exit(1); // kafkajs has logged why
});
await consumer.connect();
// Where a new group begins: with the oldest event, or each SKU would begin with a hole.
await consumer.subscribe({ topic: events, fromBeginning: true });
await consumer.run({
  // Offsets are committed after the work, never before. A commit that is lost costs repeats, which are skipped.
  // kafkajs calls this for one event at a time, so that one connection to the database does.
  eachMessage: async ({ message }) => {
    const event = read(message);
    if (event.type === "CommandIgnored" || event.type === "CommandRejected") await handleAnswer(event);
    else await handle(event);
  },
});
process.once("SIGTERM", async () => {
  await consumer.disconnect();
  await db.end();
});
