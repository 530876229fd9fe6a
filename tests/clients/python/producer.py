"""Sends commands to Lotline, with confluent-kafka.

Each line of standard input is a command, as `lotline send` reads them:

    {"type":"Allocate","id":"a-1","orderid":"order-7","sku":"SMALL-TABLE","qty":3}
"""

import json
import os
import sys

from confluent_kafka import KafkaError, Message, Producer

COMMANDS = os.environ.get("LOTLINE_KAFKA_TOPIC_PREFIX", "lotline") + ".commands"


def connect() -> Producer:
    return Producer(
        {
            "bootstrap.servers": os.environ.get("LOTLINE_KAFKA_BROKERS", "127.0.0.1:9092"),
            # A SKU's commands stay in order only if every producer puts them into the same partition. This is how Kafka's
            # own clients choose it; librdkafka's default is another.
            "partitioner": "murmur2_random",
            # Retries neither double nor reorder what is sent, and a command counts as sent once all replicas have it.
            "enable.idempotence": True,
        }
    )


def send(producer: Producer, kind: str, id: str, content_type: str, sku: str, value: bytes) -> None:
    """Queues a command, for example of the kind "Allocate".

    Lotline knows a repeat by its id: choose one that stays the same when the same order is sent again.
    """
    headers = {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_source": "/shop/python",
        "ce_type": "lotline.command.v1." + kind,
        "content-type": content_type,
    }

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:  # after all retries: the command was not sent, and somebody has to know
            failures.append(f"command {id} was not sent: {error}")

    while True:
        try:
            producer.produce(COMMANDS, key=sku, value=value, headers=headers, on_delivery=delivered)
            return
        except BufferError:  # more is waiting to be sent than the client wants to hold
            producer.poll(1)


failures: list[str] = []


def finish(producer: Producer) -> None:
    """Waits until what was queued is sent."""
    producer.flush()
    if failures:
        sys.exit("\n".join(failures))


def main() -> None:
    producer = connect()
    for line in sys.stdin:
        data = json.loads(line)
        kind, id = data.pop("type"), data.pop("id")
        send(producer, kind, id, "application/json", data["sku"], json.dumps(data).encode())
    finish(producer)


if __name__ == "__main__":
    main()
