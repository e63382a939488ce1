"""TLS, client certificates and SASL against a genuine broker that insists on them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker import Broker, artefacts, free_port
from pipeline.errors import VigilError
from pipeline.journal import Journal
from pipeline.kafka import KafkaSettings, Publisher, subscribe
from tests.pipeline.test_journal import alert
from tests.pipeline.test_kafka import published, received

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(
        not all(shutil.which(name) for name in ("java", "mvn", "openssl")), reason="needs Java 17, Maven and openssl"
    ),
    pytest.mark.timeout(300),
]
PASSWORD = "correct-horse-battery"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> Path:
    """A certificate authority, another one that nobody trusts, and a server's and a client's certificate."""
    for name in ("ca", "stranger"):
        openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
            "-out", f"{name}.csr",
        )  # fmt: skip
        openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", f"{name}.pem",
        )  # fmt: skip
    (folder / "keystore.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    return folder


class SecureBroker(Broker):
    """A broker with two more doors: TLS with client certificates, and TLS with SCRAM."""

    format_options = ("--add-scram", f"SCRAM-SHA-512=[name=vigil,password={PASSWORD}]")

    def __init__(self, folder: Path, stores: Path) -> None:
        super().__init__(folder)
        self.stores, self.tls, self.sasl = stores, free_port(), free_port()

    def _configure(self, node: int) -> Path:
        path = super()._configure(node)
        text = path.read_text()
        doors = f",SSL://127.0.0.1:{self.tls},SASL_SSL://127.0.0.1:{self.sasl}"
        lines = []
        for line in text.splitlines():
            if line.startswith(("listeners=", "advertised.listeners=")):
                line += doors
            if line.startswith("listener.security.protocol.map="):
                line += ",SSL:SSL,SASL_SSL:SASL_SSL"
            lines.append(line)
        lines += [
            "ssl.keystore.type=PEM", f"ssl.keystore.location={self.stores / 'keystore.pem'}",
            "ssl.truststore.type=PEM", f"ssl.truststore.location={self.stores / 'ca.pem'}",
            "listener.name.ssl.ssl.client.auth=required", "sasl.enabled.mechanisms=SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config="
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        ]  # fmt: skip
        path.write_text("\n".join(lines) + "\n")
        return path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    artefacts()
    made = SecureBroker(tmp_path_factory.mktemp("kafka"), certificates(tmp_path_factory.mktemp("stores")))
    made.start()
    yield made
    made.stop()


def scram(broker: SecureBroker, topic: str, **changes: Any) -> KafkaSettings:
    given = {
        "bootstrap": f"127.0.0.1:{broker.sasl}", "security": "SASL_SSL", "mechanism": "SCRAM-SHA-512",
        "username": "vigil", "password": PASSWORD, "ca_file": broker.stores / "ca.pem", "topic": topic,
        "partitions": 1,
    }  # fmt: skip
    return KafkaSettings(**given | changes)


def mutual(broker: SecureBroker, topic: str, **changes: Any) -> KafkaSettings:
    given = {
        "bootstrap": f"127.0.0.1:{broker.tls}", "security": "SSL", "ca_file": broker.stores / "ca.pem",
        "certificate_file": broker.stores / "client.pem", "key_file": broker.stores / "client.key", "topic": topic,
        "partitions": 1,
    }  # fmt: skip
    return KafkaSettings(**given | changes)


@pytest.mark.parametrize("door", [scram, mutual])
async def test_who_may_enter_is_served(secure: SecureBroker, tmp_path: Path, door: Any) -> None:
    options = door(secure, door.__name__)
    journal = Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, options)
    alerts = [alert(number) for number in range(20)]
    for one in alerts:
        journal.append("alert", one)
    await asyncio.to_thread(published, publisher, 20)
    publisher.close()
    journal.close()
    assert await received(subscribe(options, beginning=True), 20) == alerts


@pytest.mark.parametrize("fault", ["password", "authority", "certificate"])
async def test_who_may_not_is_told_and_nothing_is_lost(
    secure: SecureBroker, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = secure.stores / "stranger.pem"
    good, bad = {
        "password": (scram(secure, fault), scram(secure, fault, password="wrong-password")),
        "authority": (scram(secure, fault), scram(secure, fault, ca_file=stranger)),
        "certificate": (mutual(secure, fault), mutual(secure, fault, certificate_file=None, key_file=None)),
    }[fault]
    journal = Journal(tmp_path / "journal.db")
    with caplog.at_level(logging.DEBUG):
        publisher = Publisher(journal, bad)
        journal.append("alert", alert(1))
        for _ in range(200):
            if publisher.error:
                break
            await asyncio.sleep(0.1)
        assert publisher.error
        publisher.close(0.5)
        async with asyncio.timeout(60):
            with pytest.raises(VigilError, match=r"cannot be reached: .+"):
                await anext(subscribe(bad))
    for secret in (PASSWORD, "wrong-password"):
        assert secret not in caplog.text
        assert secret not in repr(bad) + repr(good)
    last = Publisher(journal, good)
    await asyncio.to_thread(published, last, 1)
    last.close()
    journal.close()
    assert await received(subscribe(good, beginning=True), 1) == [alert(1)]


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(VigilError, match="certificates cannot be read"):
        KafkaSettings(bootstrap="x:1", security="SSL", ca_file=tmp_path / "nothing.pem").client()
    (tmp_path / "bad.pem").write_text("nothing of the kind")
    with pytest.raises(VigilError, match="certificates cannot be read"):
        KafkaSettings(bootstrap="x:1", security="SSL", ca_file=tmp_path / "bad.pem").client()
