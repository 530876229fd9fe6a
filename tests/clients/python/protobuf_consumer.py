"""Handles events as consumer.py does, whether they are JSON or protobuf. README.md says how its classes are generated."""

from typing import Any

from lotline.event.v1 import event_pb2

import consumer


def decode(kind: str, content_type: str, value: bytes) -> Any:
    if content_type == "application/protobuf":
        return getattr(event_pb2, kind).FromString(value)
    return consumer.decode(kind, content_type, value)


if __name__ == "__main__":
    consumer.main(decode)
