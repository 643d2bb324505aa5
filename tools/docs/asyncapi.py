"""The topics and their events as AsyncAPI 3, from `shared/topics.py` and `shared/events.py`."""

import re
from typing import Any

import msgspec

from shared import events
from shared.topics import PARTNER_PARTITIONS, SOURCES, Topic

_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The AsyncAPI 3 document."""
    schemas = tuple(dict.fromkeys(schema for topic in SOURCES for schema in topic.schemas))
    _, components = msgspec.json.schema_components(schemas, ref_template=_REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Portico events",
            "version": "1.0.0",
            "description": (
                "Every record is a CloudEvent 1.0 in Kafka binary mode: attributes in record "
                "headers, a JSON value. Topics keyed `network:partner` have the same partition "
                "count; the partition is murmur2 of the key, as in Java's default partitioner."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {"bootstrap": {"default": "127.0.0.1:19092"}},
            }
        },
        "channels": {_name(topic): _channel(topic) for topic in SOURCES},
        "operations": {f"produce.{_name(topic)}": _operation(topic) for topic in SOURCES},
        "components": {
            "messages": {schema.__name__: _message(schema) for schema in schemas},
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
            "schemas": components,
        },
    }


def _name(topic: Topic) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", topic.name)


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Produced by {topic.owner}; key `{topic.key}`.",
        "messages": {
            schema.__name__: {"$ref": f"#/components/messages/{schema.__name__}"}
            for schema in topic.schemas
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions or PARTNER_PARTITIONS,
                "topicConfiguration": topic.config(),
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{_name(topic)}"},
        "summary": f"{topic.owner} produces {topic.name}.",
    }


def _message(schema: type[events.Event]) -> dict[str, Any]:
    return {
        "name": events.type_name(schema),
        "summary": (schema.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"#/components/schemas/{schema.__name__}"},
    }


def _headers() -> dict[str, Any]:
    names = {
        "ce_specversion": "`1.0`.",
        "ce_id": "Unique; the same again when a record is published again.",
        "ce_type": "`portico.<Event>`.",
        "ce_source": "The producer, `portico/keys`.",
        "ce_time": "RFC 3339, UTC.",
        "content-type": "`application/json`.",
    }
    return {
        "type": "object",
        "required": list(names),
        "properties": {
            name: {"type": "string", "description": text} for name, text in names.items()
        }
        | {"traceparent": {"type": "string", "description": "W3C trace context, if any."}},
    }
