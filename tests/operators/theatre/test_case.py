"""The case script: what it accepts, and what it says about what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.theatre.case import SHIPPED, Case, load, loads
from operators.theatre.reader import TheatreReader
from operators.theatre.steps import STEPS
from pipeline.errors import RecordingError
from pipeline.registry import open_reader

GOOD = """\
theatre: 1
duration: 60
phases:
  - {at: 0, name: inspection}
script:
  - {at: 5, do: hypotension, lasts: 20, to: 50}
  - at: 9
    do: bleeding
    lasts: 4
"""


@pytest.mark.parametrize("name", ["uneventful", "eventful", "long"])
def test_shipped_cases_load_by_name(name: str) -> None:
    case = load(name)
    assert case.name == name
    assert all(planted.onset < planted.end <= case.end_ns for planted in case.truth())


def test_shipped_cases_keep_their_promises() -> None:
    assert not [wish for planted in load("uneventful").truth() for wish in planted.expect]
    assert load("eventful").duration <= 55
    assert load("long").duration == 6 * 3600


def test_truth_is_what_the_script_says() -> None:
    case = loads(GOOD)
    hypotension, bleeding = case.truth()
    assert (hypotension.kind, hypotension.onset, hypotension.end) == ("hypotension", case.ns(5), case.ns(25))
    assert [wish.code for wish in hypotension.expect] == ["hypotension"]
    assert bleeding.expect == ()


@pytest.mark.parametrize(
    ("find", "put", "line", "said"),
    [
        ("do: hypotension", "do: hypotenshun", 6, "did you mean 'hypotension'"),
        ("to: 50", "too: 50", 6, "did you mean 'to'"),
        ("to: 50", "to: low", 6, "number"),
        ("to: 50", "to: .nan", 6, "script"),
        ("at: 9", "at: 99", 7, "after the case has ended"),
        ("at: 9", "at: -1", 7, "greater than or equal to 0"),
        ("do: bleeding", "do: [bleeding]", 7, "bleeding"),
        ("    do: bleeding\n", "", 7, "needs `do:`"),
        ("duration: 60", "duration: 1e9", 2, "duration"),
        ("duration: 60", "durration: 60", 2, "did you mean 'duration'"),
        ("lasts: 4", "amount: 2", 9, "amount"),
        ("name: inspection}", "name: a, view: wid}", 4, "did you mean 'wide'"),
        ("theatre: 1", "theatre: 2", 1, "theatre"),
    ],
)
def test_faults_name_line_and_mend(find: str, put: str, line: int, said: str) -> None:
    assert find in GOOD
    with pytest.raises(RecordingError) as caught:
        loads(GOOD.replace(find, put), "case.yaml")
    assert caught.value.where == f"case.yaml:{line}", str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a theatre case"),
        ("[1, 2]", "not a theatre case"),
        ("name: x\noperators: {}\n", "this is a topology"),
        ("theatre: 1\n", "duration"),
        ("theatre: 1\ntheatre: 1\n", "twice"),
        ("theatre: !!python/object/apply:os.system ['true']\n", "bad.yaml"),
        ("theatre: [\n", "bad.yaml"),
        ("\x00", "bad.yaml"),
        (
            "a: &a [x, x]\n"
            + "".join(f"b{i}: &b{i} [{', '.join(['*a' if i == 0 else f'*b{i - 1}'] * 9)}]\n" for i in range(9)),
            "unfolds",
        ),
        ("#" * 1_000_001, "larger than"),
        ("[" * 5_000, "bad.yaml"),
    ],
)
def test_hostile_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecordingError) as caught:
        loads(text, "bad.yaml")
    assert said in str(caught.value)


def test_reader_refuses_topologies_and_missing_files(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text("name: x\noperators: {a: {use: print}}\n")
    with pytest.raises(RecordingError, match="topology"):
        open_reader(topology)
    with pytest.raises(RecordingError, match="cannot be read"):
        TheatreReader(tmp_path / "none.yaml")
    with pytest.raises(RecordingError, match="did you mean 'eventful'"):
        load("eventfull")


WORDS = st.sampled_from(
    [*STEPS, "theatre", "duration", "script", "at", "lasts", "do", "to", "how", "video", "size", "rate"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def accepts_or_explains(text: str | bytes) -> None:
    try:
        assert isinstance(loads(text, "fuzz.yaml"), Case)
    except RecordingError as error:
        assert error.where.startswith("fuzz.yaml")


@given(VALUES, VALUES, st.lists(st.dictionaries(WORDS, VALUES, max_size=5), max_size=3))
@settings(max_examples=150, deadline=None)
def test_any_values_are_accepted_or_explained(duration: object, video: object, script: list[object]) -> None:
    accepts_or_explains(yaml.safe_dump({"theatre": 1, "duration": duration, "video": video, "script": script}))


def damaged(content: bytes, cuts: list[tuple[int, int]]) -> bytes:
    spoiled = bytearray(content)
    for place, value in cuts:
        spoiled[place % len(spoiled)] = value
    return bytes(spoiled)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 3_000))
@settings(max_examples=100, deadline=None)
def test_damaged_bytes_are_accepted_or_explained(cuts: list[tuple[int, int]], length: int) -> None:
    accepts_or_explains(damaged(GOOD.encode(), cuts)[: max(1, length)])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), st.integers(1, 3_000))
@settings(max_examples=20_000, deadline=None)
def test_damaged_bytes_at_length(cuts: list[tuple[int, int]], length: int) -> None:
    accepts_or_explains(damaged(GOOD.encode(), cuts)[:length])


def test_every_shipped_file_is_a_case() -> None:
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == {"uneventful", "eventful", "long"}
