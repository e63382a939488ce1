from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TopologyError
from pipeline.topology import load, loads, schema

GOOD = """\
name: small
description: A source into a printer.
room: ${ROOM:-or-3}
operators:
  monitor:
    use: monitor.csv
    with: {path: "${CASE:-case.csv}"}
  chosen:
    use: select
    from: [monitor.numerics, {output: monitor.waveforms, policy: block, capacity: 16}]
    with:
      streams: ["*ABP*"]
    run: {placement: thread, deadline_seconds: 0.5}
  show:
    use: print
    from: chosen
"""


def test_yaml_and_python_give_the_same_object() -> None:
    graph = loads(GOOD, "good.yaml", {"CASE": "other.csv"})
    assert graph.name == "small"
    assert graph.room == "or-3"
    assert str(graph.nodes["monitor"].config.path) == "other.csv"  # type: ignore[attr-defined]
    assert graph.nodes["chosen"].placement == "thread"
    assert graph.nodes["chosen"].deadline_seconds == 0.5
    assert [(c.name, c.policy, c.capacity) for c in graph.into("chosen")] == [
        ("monitor.numerics->chosen.input", None, None),
        ("monitor.waveforms->chosen.input", "block", 16),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("use: select", "use: slect", "bad.yaml:9: there is no operator 'slect' (did you mean 'select'?)"),
        ("streams:", "streems:", "bad.yaml:12: chosen has no option 'streems' (did you mean 'streams'?)"),
        ('["*ABP*"]', "{a: 1}", "bad.yaml:12: chosen: option 'streams': input should be a valid tuple"),
        ("from: chosen", "from: chossen", "bad.yaml:16: there is no operator named 'chossen' (did you mean 'chosen'?)"),
        ("monitor.numerics", "monitor.numeric", "bad.yaml:10: 'monitor' has no output 'numeric' (did you mean"),
        ("policy: block", "policy: blok", "bad.yaml:10: there is no policy 'blok' (did you mean 'block'?)"),
        ("capacity: 16", "capacity: 0", "bad.yaml:10: capacity must be a whole number from 1, not 0"),
        (
            "placement: thread",
            "placement: tread",
            "bad.yaml:13: there is no placement 'tread' (did you mean 'thread'?)",
        ),
        ("deadline_seconds: 0.5", "deadline_seconds: -1", "bad.yaml:13: deadline_seconds must be a positive number"),
        ("    from: chosen\n", "", "bad.yaml:14: input show.input is not connected"),
        ("description:", "descripton:", "bad.yaml:2: topology has no entry 'descripton' (did you mean 'description'?)"),
        ("with:\n", "wiht:\n", "bad.yaml:11: operator 'chosen' has no entry 'wiht' (did you mean 'with'?)"),
        ("${CASE:-case.csv}", "${CASE}", "bad.yaml:7: ${CASE} has no value (give --set CASE=..."),
        ("  show:", "  chosen:", "bad.yaml:14: 'chosen' is given twice"),
        ("use: print", "use: !!python/name:os.system ''", "bad.yaml:15"),
        ("use: print", "use: [", "bad.yaml:"),
    ],
)
def test_every_error_names_file_and_line_and_what_would_be_right(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    with pytest.raises(TopologyError) as error:
        loads(GOOD.replace(old, new, 1), "bad.yaml")
    assert expected in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00", b"\xff\xfe\x00", b"- a\n- b", b"just words", b"{" * 5000, b"[" * 100_000,
        b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"\n".join(
            b"k%d: &k%d [*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s]" % (i, i, *[b"a" if i == 0 else b"k%d" % (i - 1)] * 8)
            for i in range(12)
        ),
        b"operators: {a: {use: print, from: {output: 3}}}", b"operators: {1: 2}", b"operators: []",
        b"operators: {a: {use: print, run: 5}}", b"operators: {a: {use: print, with: 5}}",
        b"? {a: b}\n: c", b"x" * 2_000_000, b"operators: {a: {use: theatre, with: {case: .inf}}}",
        b"date: 2020-01-01\noperators: {a: {use: print}}",
        b"operators: {a: {use: select, with: {streams: 2020-01-01}}}",
    ],
)  # fmt: skip
def test_hostile_files_get_an_answer(content: bytes) -> None:
    with pytest.raises(TopologyError, match=r"hostile\.yaml"):
        loads(content, "hostile.yaml")


def damaged(data: st.DataObject) -> bytes:
    content = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        where = data.draw(st.integers(0, max(0, len(content) - 1)))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "double"]))
        if what == "flip" and content:
            content[where] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del content[where : where + data.draw(st.integers(1, 40))]
        elif what == "insert":
            content[where:where] = data.draw(st.binary(max_size=8))
        else:
            content[where:where] = content[where : where + data.draw(st.integers(1, 60))]
    return bytes(content)


def reads_or_is_refused(content: bytes) -> None:
    try:
        loads(content, "fuzz.yaml").check()
    except TopologyError as error:
        assert str(error).startswith("fuzz.yaml")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_read_or_refused_with_a_place(data: st.DataObject) -> None:
    reads_or_is_refused(damaged(data))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(st.data())
@settings(max_examples=100_000, deadline=None)
def test_a_hundred_thousand_damaged_files(data: st.DataObject) -> None:
    reads_or_is_refused(damaged(data))


def test_an_option_that_is_missing_where_none_is_given_is_named() -> None:
    with pytest.raises(TopologyError, match=r"m\.yaml:3: monitor needs the option 'path'"):
        loads("name: m\noperators:\n  monitor: {use: monitor.csv}\n", "m.yaml")


def test_the_schema_for_editors_accepts_what_we_accept_and_refuses_a_misspelling() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(validator.schema)
    validator.validate(yaml.safe_load(GOOD))
    assert not validator.is_valid(yaml.safe_load(GOOD.replace("streams:", "streems:")))
    assert not validator.is_valid(yaml.safe_load(GOOD.replace("use: select", "use: slect")))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_topology_loads_and_fits_the_schema(path: Path) -> None:
    graph = load(path, {"CASE": "eventful", "VIDEO": "video.mp4"})
    assert graph.description
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(path.read_text()))
