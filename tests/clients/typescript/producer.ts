// Sends commands to Lotline, with kafkajs.
//
// Each line of standard input is a command, as `lotline send` reads them:
//
//     {"type":"Allocate","id":"a-1","orderid":"order-7","sku":"SMALL-TABLE","qty":3}

import { createInterface } from "node:readline";
import { Kafka, Partitioners, type Message } from "kafkajs";

const commands = `${process.env.LOTLINE_KAFKA_TOPIC_PREFIX ?? "lotline"}.commands`;
const atOnceMax = 500;

const kafka = new Kafka({ brokers: (process.env.LOTLINE_KAFKA_BROKERS ?? "127.0.0.1:9092").split(",") });
const producer = kafka.producer({
  // A SKU's commands stay in order only if every producer puts them into the same partition. This is how Kafka's own
  // clients choose it.
  createPartitioner: Partitioners.DefaultPartitioner,
  // Retries neither double nor reorder what is sent, and a command counts as sent once all replicas have it.
  idempotent: true,
  maxInFlightRequests: 1,
});

type Command = { type: string; id: string; sku: string };

const source = "/shop/typescript";
const fullType = (type: string) => `lotline.command.v1.${type}`;

// The usual form: what the command is, is in headers. Lotline knows a repeat by its id: choose one that stays the same when
// the same order is sent again.
function record({ type, id, ...data }: Command): Message {
  return {
    key: data.sku,
    value: JSON.stringify(data),
    headers: {
      ce_specversion: "1.0",
      ce_id: id,
      ce_source: source,
      ce_type: fullType(type),
      "content-type": "application/json",
    },
  };
}

// The same command as one document, with --structured: for those who cannot set a header for each attribute.
function structuredRecord({ type, id, ...data }: Command): Message {
  return {
    key: data.sku,
    value: JSON.stringify({ specversion: "1.0", id, source, type: fullType(type), data }),
    headers: { "content-type": "application/cloudevents+json" },
  };
}

const make = process.argv.includes("--structured") ? structuredRecord : record;
await producer.connect();
let messages: Message[] = [];
const send = async () => {
  await producer.send({ topic: commands, acks: -1, messages });
  messages = [];
};
for await (const line of createInterface({ input: process.stdin })) {
  messages.push(make(JSON.parse(line)));
  if (messages.length === atOnceMax) await send();
}
await send();
await producer.disconnect();
