"""Sends commands as producer.py does, but as protobuf. README.md says how its classes are generated."""

import json
import sys

from lotline.command.v1 import command_pb2

import producer


def main() -> None:
    kafka = producer.connect()
    for line in sys.stdin:
        data = json.loads(line)
        kind, id = data.pop("type"), data.pop("id")
        command = getattr(command_pb2, kind)(**data)
        producer.send(kafka, kind, id, "application/protobuf", command.sku, command.SerializeToString())
    producer.finish(kafka)


if __name__ == "__main__":
    main()
