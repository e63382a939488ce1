"""How a broker is reached, and which topics Vigil has there."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Literal

import pydantic
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.helpers import create_ssl_context

from pipeline.errors import VigilError

FAREWELL_SECONDS = 0.25
DAY = 86_400_000
"""Milliseconds."""


class KafkaSettings(pydantic.BaseModel):
    """How the broker is reached. ``bootstrap`` empty means no broker."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    bootstrap: str = ""
    """``host:port,host:port``."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password: pydantic.SecretStr = pydantic.SecretStr("")
    ca_file: Path | None = None
    """Certificates that are trusted; the system's own where not given."""
    certificate_file: Path | None = None
    """Our own certificate, where the broker wants one."""
    key_file: Path | None = None
    topic: str = "vigil.alerts.v1"
    """Every revision of every alert."""
    status_topic: str = "vigil.status.v1"
    """The newest heartbeat of each room (compacted)."""
    commands_topic: str = "vigil.commands.v1"
    """What people want."""
    outcomes_topic: str = "vigil.outcomes.v1"
    """What became of it."""
    partitions: int = pydantic.Field(default=6, ge=1, le=1000)
    """Of each topic, where it has to be made."""

    def client(self) -> dict[str, Any]:
        """What every client of aiokafka takes. Raises ``VigilError`` for certificates that cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap, "security_protocol": self.security, "client_id": "vigil",
        }  # fmt: skip
        if self.security.endswith("SSL"):
            try:
                options["ssl_context"] = create_ssl_context(
                    cafile=self.ca_file, certfile=self.certificate_file, keyfile=self.key_file
                )
            except OSError as error:
                raise VigilError(f"certificates cannot be read: {error}", where="kafka") from None
        if self.security.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.mechanism, "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.get_secret_value(),
            }  # fmt: skip
        return options


async def ensure_topics(settings: KafkaSettings) -> None:
    """Make the topics that are missing: on three brokers where there are so many, a write then needs two of them.

    Alerts and outcomes are kept for a year, commands for a day, of statuses the newest of each room.
    """
    kept = {"cleanup.policy": "delete"}
    wanted = {
        settings.topic: kept | {"retention.ms": str(365 * DAY)},
        settings.outcomes_topic: kept | {"retention.ms": str(365 * DAY)},
        settings.commands_topic: kept | {"retention.ms": str(DAY)},
        settings.status_topic: {"cleanup.policy": "compact", "segment.ms": str(DAY)},
    }
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        await admin.start()
        present = await admin.list_topics()
        missing = {name: configuration for name, configuration in wanted.items() if name not in present}
        if not missing:
            return
        copies = min(3, len((await admin.describe_cluster())["brokers"]))
        for name, configuration in missing.items():
            configuration = configuration | {"min.insync.replicas": str(max(1, copies - 1))}
            topic = NewTopic(name, settings.partitions, copies, topic_configs=configuration)
            with contextlib.suppress(TopicAlreadyExistsError):
                await admin.create_topics([topic])
    finally:
        await admin.close()


async def farewell(settings: KafkaSettings) -> None:
    """Let a TLS connection that was closed say goodbye: its transport needs the loop for that."""
    if settings.security.endswith("SSL"):
        await asyncio.sleep(FAREWELL_SECONDS)
