"""How a broker is run: in a container where an engine runs, else by this machine's Java. What it does is tested where
it is used: ``test_kafka``, ``test_delivery``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import broker
from pipeline.errors import VigilError


def stand_in(folder: Path, name: str, script: str) -> None:
    """A program of that name, first on the path."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/said\n{script}\n')
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_without_an_engine_that_runs_there_is_no_image(path: Path) -> None:
    stand_in(path, "docker", "exit 1")
    assert broker.image() is None
    assert (path / "said").read_text() == "docker info\n"


def test_an_image_that_is_missing_is_pulled_and_one_that_cannot_be_is_done_without(path: Path) -> None:
    stand_in(path, "docker", '[ "$1" = info ] || [ "$1" = pull ]')
    found = broker.image()
    assert found is not None
    assert found.startswith("apache/kafka:4.")
    assert (path / "said").read_text().splitlines()[-1] == f"docker pull --quiet {found}"
    stand_in(path, "docker", '[ "$1" = info ]')
    assert broker.image() is None


def test_a_container_sees_the_same_files_and_ports_as_the_user_that_runs_it() -> None:
    command = broker.runner(Path("/data/kafka"), "apache/kafka:4.1.2", "vigil-kafka-9092")
    text = " ".join(command)
    assert "--network host" in text
    assert "--volume /data/kafka:/data/kafka" in text
    assert f"--user {os.getuid()}:{os.getgid()}" in text
    assert command[command.index("apache/kafka:4.1.2") - 1] == "java"
    assert text.endswith("-cp /opt/kafka/libs/*")


def test_without_java_and_docker_people_are_told_what_to_install(path: Path, tmp_path: Path) -> None:
    stand_in(path, "docker", "exit 1")
    with pytest.raises(VigilError, match="`java` is not here"):
        broker.Broker(tmp_path / "kafka").start()
