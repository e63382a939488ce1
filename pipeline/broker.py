"""A genuine Apache Kafka broker for a box without one: `vigil broker start`.

KRaft, combined broker and controller, one node or three, on the loopback interface. Where a Docker engine runs and has
Kafka's own image, or can pull it, that runs the nodes; else Java runs the artefacts that Maven fetches from Maven
Central by ``deploy/kafka/pom.xml`` into the user's cache. Nothing is installed, and either way it is the same program
with the same configuration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import platformdirs
import psutil

from pipeline.errors import VigilError

IMAGE = "apache/kafka"
"""The image that the Apache Kafka project publishes; its tag is the version in ``POM``."""
POM = Path(__file__).parent.parent / "deploy" / "kafka" / "pom.xml"
START_SECONDS = 60.0

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


def artefacts() -> Path:
    """The folder of Kafka's jars, fetched where missing. Raises ``VigilError``."""
    for program, mend in (("java", "install Java 17 or newer"), ("mvn", "install Maven")):
        if shutil.which(program) is None:
            raise VigilError(f"`{program}` is not here", where="broker", mend=mend)
    folder = Path(platformdirs.user_cache_dir("vigil")) / "kafka" / f"{_version()}"
    if (folder / ".whole").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    done = subprocess.run([*command, f"-DoutputDirectory={partial}"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = "; ".join(line for line in done.stdout.splitlines() if "ERROR" in line)[:300]
        raise VigilError(f"Maven could not fetch Kafka: {last}", where=str(POM), mend="is Maven Central reachable?")
    (partial / ".whole").touch()
    with contextlib.suppress(OSError):  # another process was quicker
        partial.rename(folder)
    return folder


def image() -> str | None:
    """Kafka's image where a Docker engine runs here and has it or can pull it; else None."""
    if shutil.which("docker") is None:
        return None
    name = f"{IMAGE}:{_version()}"

    def works(*arguments: str) -> bool:
        return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0

    if not works("info"):
        return None
    return name if works("image", "inspect", name) or works("pull", "--quiet", name) else None


def runner(folder: Path, name: str | None, container: str) -> list[str]:
    """The words before Kafka's own: a Java that has Kafka on its class path, in a container or not.

    Args:
        folder: the broker's data, seen under the same path inside a container.
        name: the image, or None for the Java of this machine.
        container: what the container is called.
    """
    options = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    options.append(f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}")
    if name is None:
        return ["java", *options, "-cp", f"{artefacts()}/*"]
    return [
        "docker", "run", "--rm", "--name", container, "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}",
        "--volume", f"{folder}:{folder}", "--entrypoint", "java", name, *options, "-cp", "/opt/kafka/libs/*",
    ]  # fmt: skip


def _version() -> str:
    text = POM.read_text()
    return text.partition("<kafka.version>")[2].partition("<")[0]


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Broker:
    """One to three nodes with their data under ``folder``.

    Args:
        folder: configuration, logs and data; kept over restarts.
        port: of the first node; the others follow. 0 takes any free ports.
    """

    format_options: tuple[str, ...] = ()
    """Further words for Kafka's storage tool, e.g. SCRAM credentials."""

    def __init__(self, folder: Path, *, nodes: int = 1, port: int = 0) -> None:
        self.folder, self.nodes = folder, nodes
        self.ports = [port + index if port else free_port() for index in range(nodes)]
        self.controllers = [free_port() for _ in range(nodes)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.image: str | None = None

    @property
    def bootstrap(self) -> str:
        """What clients are given: ``host:port,...``."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self) -> None:
        """Format what is new, start all nodes, wait until they take connections. Raises ``VigilError``."""
        self.image = image()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOG4J)
        identity = self.folder / "cluster"
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex[:22])
        for node in range(self.nodes):
            configuration = self._configure(node)
            if not (self.folder / f"data-{node}" / "meta.properties").exists():
                format_command = ["kafka.tools.StorageTool", "format", "-t", identity.read_text()]
                self._run([*format_command, "-c", str(configuration), *self.format_options], node).wait()
        for node in range(self.nodes):
            self.start_node(node)
        for node in range(self.nodes):
            self.wait(node)

    def start_node(self, node: int) -> None:
        """Start one node, formatted before."""
        configuration = self.folder / f"node-{node}.properties"
        self.processes[node] = self._run(["kafka.Kafka", str(configuration)], node)
        (self.folder / f"node-{node}.pid").write_text(str(self.processes[node].pid))

    def wait(self, node: int) -> None:
        """Until a node takes connections. Raises ``VigilError`` with the end of its log."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.processes[node].poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[node]), 0.5):
                return
            time.sleep(0.1)
        log = self.folder / f"node-{node}.log"
        end = log.read_text(errors="replace")[-600:]
        raise VigilError(f"Kafka does not start: {end}", where=str(log))

    def kill(self, node: int = 0) -> None:
        """SIGKILL, as a power cut would."""
        if self.image is not None:
            subprocess.run(["docker", "kill", self._container(node)], capture_output=True, check=False)
        self.processes[node].kill()
        self.processes.pop(node).wait()

    def stop(self) -> None:
        """End all nodes cleanly."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        for file in self.folder.glob("node-*.pid"):
            file.unlink()

    def _container(self, node: int) -> str:
        return f"vigil-kafka-{self.ports[node]}"

    def _run(self, arguments: list[str], node: int) -> subprocess.Popen[bytes]:
        command = [*runner(self.folder, self.image, self._container(node)), *arguments]
        with (self.folder / f"node-{node}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def _configure(self, node: int) -> Path:
        voters = ",".join(f"{index + 1}@127.0.0.1:{port}" for index, port in enumerate(self.controllers))
        port, controller, copies = self.ports[node], self.controllers[node], self.nodes
        path = self.folder / f"node-{node}.properties"
        path.write_text(f"""\
process.roles=broker,controller
node.id={node + 1}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={self.folder / f"data-{node}"}
num.partitions=1
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={2 if copies > 1 else 1}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={2 if copies > 1 else 1}
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
""")
        return path


def stop_running(folder: Path) -> int:
    """End the nodes that an earlier `vigil broker start` left running in ``folder``; gives their number."""
    ended = 0
    for file in folder.glob("node-*.pid"):
        with contextlib.suppress(psutil.Error, ValueError):
            process = psutil.Process(int(file.read_text()))
            if process.name() in ("java", "docker"):  # a number may have been given to another program since
                process.terminate()
                process.wait(20)
                ended += 1
        file.unlink(missing_ok=True)
    return ended
