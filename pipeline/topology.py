"""Topologies: graphs as YAML that a clinician's engineer can read, with errors that name file and line.

    name: monitor
    description: Hypotension, limits and silence from a patient monitor.
    operators:
      monitor:
        use: monitor.vital
        with: {path: case.vital}
      hypotension:
        use: monitor.hypotension
        from: {numerics: monitor.numerics}
        with: {limit_mmhg: 65}
        run: {placement: thread, deadline_seconds: 0.5}
      alerts:
        use: alerts
        from: [hypotension.conditions]

``from`` is an output, a list of outputs (all into the one input), or a mapping of inputs to outputs. An output may
be written ``{output: a.b, policy: latest, capacity: 8}``. ``${NAME}`` and ``${NAME:-default}`` are replaced by
values given at launch, then by the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pydantic

from pipeline import registry
from pipeline.document import Table, parse, read
from pipeline.errors import TopologyError, nearest
from pipeline.graph import Graph, option_error
from pipeline.operator import Operator

TOP = ("name", "description", "room", "operators")
OPERATOR = ("use", "from", "with", "run")
RUN = ("placement", "deadline_seconds")
EDGE = ("output", "policy", "capacity")
PLACEMENTS = ("inline", "thread", "process", "cuda")
POLICIES = ("block", "latest", "drop_oldest")


def load(path: Path | str, values: Mapping[str, str] | None = None) -> Graph:
    """Read, build and check a topology file.

    Args:
        path: the YAML file.
        values: replacements for ``${NAME}``.

    Raises:
        TopologyError: for anything that is not a runnable topology; names file and line.
    """
    path = Path(path)
    return loads(read(path, TopologyError), str(path), values)


def loads(content: bytes | str, where: str = "<topology>", values: Mapping[str, str] | None = None) -> Graph:
    """``load`` from text; ``where`` is what errors call it."""
    graph = _Builder(where, values or {}).build(parse(content, where, TopologyError))
    graph.check()
    return graph


class _Builder:
    def __init__(self, file: str, values: Mapping[str, str]) -> None:
        self.file, self.values = file, values

    def build(self, document: Any) -> Graph:
        if not isinstance(document, Table):
            self.fail("a topology is a mapping with `name` and `operators`", 1)
        self.known(document, TOP, "topology")
        name = document.get("name", Path(self.file).stem)
        operators = document.get("operators")
        if not isinstance(operators, Table) or not operators:
            self.fail("`operators` must map names to operators", document.lines.get("operators", 1))
        graph = Graph(
            str(name),
            description=str(document.get("description", "")),
            room=self.fill(str(document.get("room", "room")), document.lines.get("room", 1)),
            where=self.file,
        )
        for operator_name, body in operators.items():
            self.operator(graph, operator_name, body, operators.lines[operator_name])
        for operator_name, body in operators.items():
            if "from" in body:
                self.edges(graph, operator_name, body["from"], body.lines["from"])
        return graph

    def operator(self, graph: Graph, name: str, body: Any, line: int) -> None:
        if not isinstance(body, Table) or not isinstance(body.get("use"), str):
            self.fail(f"operator {name!r} needs `use: <registered name>`", line)
        self.known(body, OPERATOR, f"operator {name!r}")
        cls = registry.operator(str(body["use"]), self.at(body.lines["use"]))
        run = body.get("run")
        run = Table() if run is None else run
        if not isinstance(run, Table):
            self.fail(f"`run` of {name!r} must be a mapping", body.lines["run"])
        self.known(run, RUN, f"`run` of {name!r}")
        placement = run.get("placement", "inline")
        if placement not in PLACEMENTS:
            mend = nearest(str(placement), PLACEMENTS)
            self.fail(f"there is no placement {placement!r}", run.lines["placement"], mend)
        deadline = run.get("deadline_seconds")
        if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):
            self.fail(f"deadline_seconds must be a positive number, not {deadline!r}", run.lines["deadline_seconds"])
        graph.add(
            str(name),
            cls,
            self.configure(str(name), cls, body.get("with"), body.lines.get("with", line)),
            placement=placement,
            deadline_seconds=deadline,
            where=self.at(line),
        )

    def configure(self, name: str, cls: type[Operator], options: Any, line: int) -> pydantic.BaseModel:
        options = Table() if options is None else options
        if not isinstance(options, Table):
            self.fail(f"`with` of {name!r} must be a mapping of options", line)
        try:
            return cls.Config(**self.plain(options, line))
        except pydantic.ValidationError as error:
            first = str(error.errors(include_url=False)[0]["loc"][0]) if error.errors()[0]["loc"] else ""
            raise option_error(error, cls, self.at(options.lines.get(first, line)), name) from None

    def edges(self, graph: Graph, target: str, origin: Any, line: int) -> None:
        if isinstance(origin, Table) and "output" not in origin:
            for port, sources in origin.items():
                for source in _listed(sources):
                    self.edge(graph, source, f"{target}.{port}", origin.lines[port])
            return
        for source in _listed(origin):
            self.edge(graph, source, target, line)

    def edge(self, graph: Graph, source: Any, target: str, line: int) -> None:
        policy = capacity = None
        if isinstance(source, Table):
            self.known(source, EDGE, "edge")
            policy, capacity = source.get("policy"), source.get("capacity")
            if policy is not None and policy not in POLICIES:
                self.fail(f"there is no policy {policy!r}", source.lines["policy"], nearest(str(policy), POLICIES))
            if capacity is not None and not (isinstance(capacity, int) and 1 <= capacity <= 1_000_000):
                self.fail(f"capacity must be a whole number from 1, not {capacity!r}", source.lines["capacity"])
            line, source = source.line, source.get("output")
        if not isinstance(source, str):
            self.fail(f"`from` of {target!r} must name outputs as operator.output, not {source!r}", line)
        line = getattr(source, "line", 0) or line
        graph.connect(str(source), target, policy=policy, capacity=capacity, where=self.at(line))

    # -- small things

    def plain(self, value: Any, line: int) -> Any:
        """Ordinary Python values, with ``${NAME}`` filled in."""
        if isinstance(value, Table):
            return {str(key): self.plain(item, value.lines[key]) for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, line) for item in value]
        return self.fill(str(value), line) if isinstance(value, str) else value

    def fill(self, text: str, line: int) -> str:
        def replace(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            found = self.values.get(name, os.environ.get(name, default))
            if found is None:
                self.fail(f"${{{name}}} has no value", line, f"give --set {name}=... or write ${{{name}:-default}}")
            return found

        return re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}", replace, text)

    def known(self, table: Table | dict[str, Any], names: tuple[str, ...], what: str) -> None:
        for key in table:
            if key not in names:
                line = table.lines.get(key, table.line) if isinstance(table, Table) else 0
                self.fail(f"{what} has no entry {key!r}", line, nearest(str(key), names))

    def at(self, line: int) -> str:
        return f"{self.file}:{line}"

    def fail(self, message: str, line: int, mend: str = "") -> NoReturn:
        raise TopologyError(message, where=self.at(line), mend=mend)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


VARIABLE = {"type": "string", "pattern": r"^\$\{\w+(:-[^}]*)?\}$"}
"""``${NAME:-default}`` may stand for any number, switch, or text of a given form."""


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a topology file, with the options of every registered operator, for editors."""
    output = {"type": "string", "pattern": r"^[\w-]+(\.\w+)?$"}
    edge = {
        "anyOf": [
            output,
            {
                "type": "object",
                "properties": {
                    "output": output,
                    "policy": {"enum": list(POLICIES)},
                    "capacity": {"type": "integer", "minimum": 1},
                },
                "required": ["output"],
                "additionalProperties": False,
            },
        ]
    }
    edges = {"anyOf": [edge, {"type": "array", "items": edge}]}
    variants = []
    for name in sorted(registry.names("operators")):
        cls = registry.operator(name)
        variants.append(
            {
                "type": "object",
                "description": (cls.__doc__ or "").strip().split("\n")[0],
                "properties": {
                    "use": {"const": name},
                    "from": {"anyOf": [edges, {"type": "object", "additionalProperties": edges}]},
                    "with": _inline(cls.Config.model_json_schema()),
                    "run": {
                        "type": "object",
                        "properties": {
                            "placement": {"enum": list(PLACEMENTS)},
                            "deadline_seconds": {"type": "number", "exclusiveMinimum": 0},
                        },
                        "additionalProperties": False,
                    },
                },
                "required": ["use"],
                "additionalProperties": False,
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Vigil topology",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "room": {"type": "string"},
            "operators": {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": variants}},
        },
        "required": ["operators"],
        "additionalProperties": False,
    }


def _inline(model: dict[str, Any]) -> dict[str, Any]:
    """A pydantic schema with its ``$defs`` put in place, so that it can stand inside another schema."""
    definitions = model.pop("$defs", {})

    def unfold(value: Any, depth: int = 0) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref", "")
            if reference.startswith("#/$defs/") and depth < 8:
                return unfold(definitions[reference.removeprefix("#/$defs/")], depth + 1)
            found = {key: unfold(item, depth) for key, item in value.items()}
            restricted = found.get("type") == "string" and found.keys() & {"pattern", "format", "minLength"}
            if restricted or found.get("type") in ("number", "integer", "boolean"):
                return {"anyOf": [found, VARIABLE]}
            return found
        return [unfold(item, depth) for item in value] if isinstance(value, list) else value

    unfolded: dict[str, Any] = unfold(model)
    return unfolded
