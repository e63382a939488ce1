"""Alerts to Apache Kafka and commands back.

The journal owns durability; the client library only carries. Everything is delivered at least once, in order per room;
the CloudEvents id, ``alert_id:revision``, tells repetitions apart.
"""

from pipeline.kafka.publisher import Publisher, headers
from pipeline.kafka.settings import KafkaSettings, ensure_topics
from pipeline.kafka.subscriber import CommandReader, send_command, statuses, subscribe

__all__ = [
    "CommandReader",
    "KafkaSettings",
    "Publisher",
    "ensure_topics",
    "headers",
    "send_command",
    "statuses",
    "subscribe",
]
