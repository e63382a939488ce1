"""Graphs: which operators, joined how. Built in Python or read from YAML (``pipeline.topology``): the same object.

graph = Graph("monitor")
graph.add("monitor", VitalFile, path="case.vital")
graph.add("hypotension", Hypotension, limit_mmhg=65)
graph.connect("monitor.numerics", "hypotension.numerics")
graph.check()
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Literal, TypeVar

import pydantic

from pipeline.edge import Policy
from pipeline.errors import TopologyError, nearest
from pipeline.message import AlertCondition, SyntheticFrame, VideoFrame
from pipeline.operator import Operator, Port, Source

Placement = Literal["inline", "thread", "process", "cuda"]

ENGINE = "engine"
"""The node name under which the engine itself speaks; ``engine.conditions`` is its port."""


@dataclasses.dataclass
class Node:
    """An operator in a graph."""

    name: str
    operator: type[Operator]
    config: pydantic.BaseModel
    placement: Placement = "inline"
    deadline_seconds: float | None = None
    where: str = ""

    @property
    def is_source(self) -> bool:
        return issubclass(self.operator, Source)


@dataclasses.dataclass
class Connection:
    """An edge in a graph. ``policy`` None means the default: see ``Graph.defaults``."""

    source: str
    output: str
    target: str
    input: str
    policy: Policy | None = None
    capacity: int | None = None
    where: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}.{self.output}->{self.target}.{self.input}"


OperatorType = TypeVar("OperatorType", bound=Operator)


class Graph:
    """Operators and the edges between them.

    Args:
        name: what alerts and metrics call it.
        description: one sentence for people.
        room: the Kafka key, unless the launcher says otherwise.
    """

    def __init__(self, name: str, *, description: str = "", room: str = "room", where: str = "") -> None:
        self.name, self.description, self.room, self.where = name, description, room, where
        self.nodes: dict[str, Node] = {}
        self.connections: list[Connection] = []

    def add(
        self,
        name: str,
        operator: type[Operator],
        config: pydantic.BaseModel | None = None,
        *,
        placement: Placement = "inline",
        deadline_seconds: float | None = None,
        where: str = "",
        **options: Any,
    ) -> Node:
        """Add an operator under a name of its own. Raises ``TopologyError`` for a name in use or a bad option."""
        if name in self.nodes or name == ENGINE:
            raise TopologyError(f"the name {name!r} is already used", where=where or self.where, mend="choose another")
        if not name.replace("_", "").replace("-", "").isalnum():
            mend = "use letters, digits, - and _"
            raise TopologyError(f"{name!r} is not a name for an operator", where=where or self.where, mend=mend)
        if config is None:
            config = self._configure(name, operator, options, where)
        node = Node(name, operator, config, placement, deadline_seconds, where)
        self.nodes[name] = node
        return node

    def connect(
        self,
        source: str,
        target: str,
        *,
        policy: Policy | None = None,
        capacity: int | None = None,
        where: str = "",
    ) -> Connection:
        """Join ``node.output`` to ``node.input``; a bare node name means its only port.

        Giving a policy or a capacity asks for a queue; without, the engine calls the target directly where it can.
        Raises ``TopologyError`` for names that do not exist.
        """
        source_node, output = self._resolve(source, "output", where)
        target_node, input_port = self._resolve(target, "input", where)
        connection = Connection(source_node, output, target_node, input_port, policy, capacity, where)
        self.connections.append(connection)
        return connection

    def into(self, name: str) -> list[Connection]:
        """The edges that end at the operator."""
        return [connection for connection in self.connections if connection.target == name]

    def out_of(self, name: str) -> list[Connection]:
        """The edges that begin at the operator."""
        return [connection for connection in self.connections if connection.source == name]

    def sources(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_source]

    def order(self) -> list[Node]:
        """Nodes so that every node follows what feeds it, edges that carry a feedback left out."""
        feedback = {id(connection) for connection in self.feedback()}
        placed: dict[str, Node] = {}
        waiting = dict(self.nodes)
        while waiting:
            for name in list(waiting):
                before = {c.source for c in self.into(name) if id(c) not in feedback and c.source != ENGINE}
                if before <= placed.keys():
                    placed[name] = waiting.pop(name)
        return list(placed.values())

    def feedback(self) -> list[Connection]:
        """The buffered edges that close a cycle. Raises ``TopologyError`` for a cycle that has none."""
        found: list[Connection] = []
        while cycle := self._cycle(found):
            buffered = [connection for connection in cycle if connection.capacity is not None]
            if not buffered:
                path = " -> ".join([*(connection.source for connection in cycle), cycle[0].source])
                mend = "give one of its edges a capacity, which makes it a buffer"
                raise TopologyError(f"cycle without a buffer: {path}", where=cycle[-1].where or self.where, mend=mend)
            found.append(buffered[-1])
        return found

    def digest(self) -> str:
        """SHA-256 of everything that decides what the graph computes, first 16 hex digits."""
        nodes = {
            node.name: [f"{node.operator.__module__}.{node.operator.__qualname__}", node.operator.version,
                        json.loads(node.config.model_dump_json())]
            for node in self.nodes.values()
        }  # fmt: skip
        edges = sorted(connection.name for connection in self.connections)
        return hashlib.sha256(json.dumps([nodes, edges], sort_keys=True).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Raise ``TopologyError`` at the first thing that would keep the graph from running as it is meant to."""
        if not self.nodes:
            raise TopologyError("the graph has no operators", where=self.where)
        if not self.sources():
            raise TopologyError("the graph has no source", where=self.where, mend="add an operator without inputs")
        for node in self.nodes.values():
            self._check_inputs(node)
        for connection in self.connections:
            self._check_types(connection)
        self._check_synthetic()
        self._check_privacy()
        self.feedback()

    # ------------------------------------------------------------------------------------ private

    def _configure(
        self, name: str, operator: type[Operator], options: dict[str, Any], where: str
    ) -> pydantic.BaseModel:
        try:
            return operator.Config(**options)
        except pydantic.ValidationError as error:
            raise option_error(error, operator, where or self.where, name) from None

    def _resolve(self, reference: str, side: Literal["input", "output"], where: str) -> tuple[str, str]:
        name, _, port = reference.partition(".")
        where = where or self.where
        if name not in self.nodes:
            raise TopologyError(f"there is no operator named {name!r}", where=where, mend=nearest(name, self.nodes))
        ports = getattr(self.nodes[name].operator, f"{side}s")
        if not port:
            # What the engine or people feed is connected only by name.
            usual = [known for known in ports if known not in self.nodes[name].operator.told]
            if len(usual) == 1:
                return name, usual[0]
            known = ", ".join(f"{name}.{known}" for known in ports) or f"none: it has no {side}s"
            raise TopologyError(f"{name!r} has {len(ports)} {side}s: say which", where=where, mend=f"one of {known}")
        if port not in ports:
            raise TopologyError(f"{name!r} has no {side} {port!r}", where=where, mend=nearest(port, ports))
        return name, port

    def _check_inputs(self, node: Node) -> None:
        connected = {connection.input for connection in self.into(node.name)}
        for port in node.operator.inputs.values():
            if port.required and port.name not in connected:
                mend = f"connect something that gives {type_names(port)}"
                where = node.where or self.where
                raise TopologyError(f"input {node.name}.{port.name} is not connected", where=where, mend=mend)

    def _check_types(self, connection: Connection) -> None:
        given = self.nodes[connection.source].operator.outputs[connection.output]
        wanted = self.nodes[connection.target].operator.inputs[connection.input]
        if not compatible(given, wanted):
            raise TopologyError(
                f"{connection.source}.{connection.output} gives {type_names(given)}, but "
                f"{connection.target}.{connection.input} takes {type_names(wanted)}",
                where=connection.where or self.where,
                mend=self._suggest(connection.source, wanted),
            )

    def _suggest(self, source: str, wanted: Port) -> str:
        fitting = [f"{source}.{port.name}" for port in self.nodes[source].operator.outputs.values()
                   if compatible(port, wanted)]  # fmt: skip
        others = [f"{node.name}.{port.name}" for node in self.nodes.values() for port in node.operator.outputs.values()
                  if compatible(port, wanted) and Any not in port.types]  # fmt: skip
        options = fitting or others
        return f"did you mean {options[0]}?" if options else f"nothing in this graph gives {type_names(wanted)}"

    def _check_synthetic(self) -> None:
        """Generated is never measured: a stream that may carry generated pixels reaches only what accepts them."""
        tainted: set[tuple[str, str]] = set()
        for node in self.order():
            incoming = [c for c in self.into(node.name) if (c.source, c.output) in tainted]
            if incoming and not node.operator.accepts_synthetic:
                connection = incoming[0]
                raise TopologyError(
                    f"{connection.source}.{connection.output} carries generated pictures (synthetic.*), and "
                    f"{node.name} measures or alerts: generated is never measured",
                    where=connection.where or self.where,
                    mend="connect it to a viewer or recorder, or feed this operator from a camera",
                )
            for port in node.operator.outputs.values():
                made = SyntheticFrame in port.types or port.name.startswith("synthetic")
                handed_on = bool(incoming) and (Any in port.types or VideoFrame in port.types)
                if made or handed_on:
                    tainted.add((node.name, port.name))

    def _check_privacy(self) -> None:
        """Private by default: a camera's pictures reach what keeps or shows them only past a privacy guard."""
        exposed: dict[tuple[str, str], str] = {}
        for node in self.order():
            operator = node.operator
            incoming = [c for c in self.into(node.name) if (c.source, c.output) in exposed]
            if incoming and operator.keeps_pictures and not getattr(node.config, "unguarded", False):
                connection = incoming[0]
                camera = exposed[connection.source, connection.output]
                raise TopologyError(
                    f"{node.name} keeps pictures of {camera} that no privacy guard has seen",
                    where=connection.where or self.where,
                    mend="put video.privacy between them and take its `video`, or say `unguarded: true` here",
                )
            films = node.is_source and operator.films_people  # type: ignore[attr-defined]
            if operator.guards_privacy or not (films or incoming):
                continue
            camera = node.name if films else exposed[incoming[0].source, incoming[0].output]
            for port in operator.outputs.values():
                if VideoFrame in port.types or (incoming and Any in port.types):
                    exposed[node.name, port.name] = camera

    def _cycle(self, without: list[Connection]) -> list[Connection]:
        edges: dict[str, list[Connection]] = {}
        for connection in self.connections:
            if not any(connection is other for other in without):
                edges.setdefault(connection.source, []).append(connection)
        done: set[str] = set()

        def visit(name: str, path: list[Connection], on_path: list[str]) -> list[Connection]:
            if name in on_path:
                return path[on_path.index(name) :]
            if name in done:
                return []
            for connection in edges.get(name, []):
                if found := visit(connection.target, [*path, connection], [*on_path, name]):
                    return found
            done.add(name)
            return []

        for name in self.nodes:
            if found := visit(name, [], []):
                return found
        return []


def compatible(given: Port, wanted: Port) -> bool:
    """True where everything that ``given`` may carry can be handled by ``wanted``."""
    if Any in wanted.types or Any in given.types:
        return True
    return all(any(issubclass(kind, accepted) for accepted in wanted.types) for kind in given.types)


def type_names(port: Port) -> str:
    return " | ".join("anything" if kind is Any else getattr(kind, "__name__", str(kind)) for kind in port.types)


def carries(port: Port, kind: type) -> bool:
    """True where the port is declared to carry exactly payloads of ``kind``."""
    return bool(port.types) and all(isinstance(item, type) and issubclass(item, kind) for item in port.types)


def takes_conditions(operator: type[Operator]) -> str:
    """The input on which an operator wants the engine's own technical conditions, or ''."""
    for port in operator.inputs.values():
        if carries(port, AlertCondition) and not operator.outputs.keys() & {"conditions"}:
            return port.name
    return ""


def engine_inputs(operator: type[Operator]) -> list[str]:
    """The inputs that the engine itself feeds: its own technical conditions, and what comes from outside."""
    conditions = takes_conditions(operator)
    return [*([conditions] if conditions else []), *operator.told]


def option_error(error: pydantic.ValidationError, operator: type[Operator], where: str, name: str) -> TopologyError:
    """The first fault pydantic found, in our words, with the nearest spelling for an unknown option."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "options"
    known = operator.Config.model_fields
    if first["type"] == "extra_forbidden":
        return TopologyError(f"{name} has no option {field!r}", where=where, mend=nearest(field, known))
    if first["type"] == "missing":
        about = known[field].description if field in known else ""
        return TopologyError(f"{name} needs the option {field!r}", where=where, mend=about or "")
    got = f", not {first['input']!r}" if not isinstance(first["input"], dict) else ""
    return TopologyError(f"{name}: option {field!r}: {first['msg'][0].lower() + first['msg'][1:]}{got}", where=where)
