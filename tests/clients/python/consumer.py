"""Handles Lotline's events, each exactly once, with confluent-kafka and Postgres.

It keeps the notes of a packing station (../consumer.sql) in the database that DATABASE_URL names.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException

EVENTS = os.environ.get("LOTLINE_KAFKA_TOPIC_PREFIX", "lotline") + ".events"


class Hole(Exception):
    """A version is missing: an event was not read, and going on would hide that."""


def handle(db: psycopg.Connection, kind: str, event: Any) -> None:
    """Does an event's work once, however often the event comes: the work and its mark are one transaction."""
    with db.transaction():
        (handled,) = db.execute(LOCK, [event.sku]).fetchone()
        if event.version <= handled:
            return  # a repeat
        if event.version > handled + 1:
            raise Hole(f"{event.sku} is handled up to version {handled}, and {event.version} is next")
        work(db, kind, event)
        db.execute("UPDATE handled SET version = %s WHERE sku = %s", [event.version, event.sku])


# The SKU's row, made if it is its first event, and held until the transaction ends: another consumer that believes it
# owns the same partition waits here, and then sees what was done.
LOCK = """INSERT INTO handled VALUES (%s, 0)
    ON CONFLICT (sku) DO UPDATE SET version = handled.version RETURNING version"""


def work(db: psycopg.Connection, kind: str, event: Any) -> None:
    """Yours goes here. What cannot be part of the transaction, such as a letter, is written down in it and sent later."""
    match kind:
        case "Allocated":
            units = event.qty
        case "Deallocated":
            units = -event.qty
        case _:
            return  # nothing to pack; the version is marked all the same
    db.execute(
        "INSERT INTO notes (sku, batchref, orderid, units) VALUES (%s, %s, %s, %s)",
        [event.sku, event.batchref, event.orderid, units],
    )


def handle_answer(db: psycopg.Connection, ce_id: str, event: Any) -> None:
    """A command that changed nothing is answered without a version of its own; the answer's ce_id tells a repeat."""
    db.execute(
        "INSERT INTO refusals VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [ce_id, event.commandid, event.reason, event.message],
    )


def decode(kind: str, content_type: str, value: bytes) -> Any:
    """Reads the JSON; protobuf_consumer.py has another."""
    return SimpleNamespace(**json.loads(value))


def commit(consumer: Consumer) -> None:
    """Commits the offsets of what was handled: after the work, never before.

    An asynchronous commit would collect them on another thread, after the next poll perhaps, whose work is not done.
    """
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:  # the partitions went to another consumer, say: it meets repeats, and skips them
        print(f"offsets are not committed: {error}", file=sys.stderr)


def main(decode: Callable[[str, str, bytes], Any]) -> None:
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("LOTLINE_KAFKA_BROKERS", "127.0.0.1:9092"),
            "group.id": os.environ.get("GROUP_ID", "lotline.consumer.packing"),
            # Events of transactions that were aborted did not happen.
            "isolation.level": "read_committed",
            # Where a new group begins: with the oldest event, or each SKU would begin with a hole.
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # How long the partitions of a consumer that was killed wait for another.
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([EVENTS])
    try:
        while not stopping:
            messages = consumer.consume(500, timeout=0.5)
            for message in messages:
                if message.error():
                    sys.exit(f"read {EVENTS}: {message.error()}")
                headers = {name: value.decode() for name, value in message.headers()}
                kind = headers["ce_type"].removeprefix("lotline.event.v1.")
                event = decode(kind, headers["content-type"], message.value())
                if kind in ("CommandIgnored", "CommandRejected"):
                    handle_answer(db, headers["ce_id"], event)
                else:
                    handle(db, kind, event)
            if messages:
                commit(consumer)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(decode)
