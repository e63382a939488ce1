from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.basic import PassThrough
from pipeline.errors import TopologyError
from pipeline.graph import Graph
from pipeline.message import AlertCondition, Message, SyntheticFrame, VideoFrame
from pipeline.operator import Config, Input, Operator, Output, Outputs, Source
from tests.pipeline.helpers import Add, Collect, Count, Frames, Mean


class Imagined(Source):
    """A generative model's view."""

    live: ClassVar[bool] = False
    output: Output[SyntheticFrame]


class Perception(Operator):
    video: Input[Any]
    conditions: Output[AlertCondition]

    def process(self, message: Message[Any]) -> Outputs:
        return None


class Two(Operator):
    left: Input[VideoFrame]
    right: Input[VideoFrame] | None
    output: Output[VideoFrame]


def graph_of(*nodes: tuple[str, type[Operator]]) -> Graph:
    graph = Graph("test", where="test.yaml")
    for name, operator in nodes:
        graph.add(name, operator)
    return graph


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("cuont", "add", "there is no operator named 'cuont' .*did you mean 'count'"),
        ("count.outptu", "add", "'count' has no output 'outptu' .*did you mean 'output'"),
        ("count", "add.inptu", "'add' has no input 'inptu' .*did you mean 'input'"),
        ("count", "two", "'two' has 2 inputs: say which .*two.left, two.right"),
        ("end", "add", "'end' has 0 outputs: say which .*it has no outputs"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_one(source: str, target: str, expected: str) -> None:
    graph = graph_of(("count", Count), ("add", Add), ("two", Two), ("end", Collect))
    with pytest.raises(TopologyError, match=expected):
        graph.connect(source, target)


def test_types_that_do_not_fit_are_named_with_what_would() -> None:
    graph = graph_of(("count", Count), ("frames", Frames), ("mean", Mean))
    graph.connect("count", "mean.video", where="test.yaml:7")
    with pytest.raises(TopologyError) as error:
        graph.check()
    assert str(error.value) == (
        "test.yaml:7: count.output gives Numeric, but mean.video takes VideoFrame (did you mean frames.video?)"
    )


def test_a_required_input_must_be_connected_and_an_optional_one_need_not() -> None:
    graph = graph_of(("frames", Frames), ("two", Two))
    with pytest.raises(TopologyError, match=r"input two.left is not connected .*gives VideoFrame"):
        graph.check()
    graph.connect("frames", "two.left")
    graph.check()


def test_unknown_and_wrong_options_are_named() -> None:
    graph = Graph("test")
    with pytest.raises(TopologyError, match=r"count has no option 'cuont' \(did you mean 'count'\?\)"):
        graph.add("count", Count, cuont=3)
    with pytest.raises(TopologyError, match="count: option 'count': input should be a valid integer"):
        graph.add("count", Count, count="many")


def test_names_are_unique_and_plain() -> None:
    graph = graph_of(("count", Count))
    with pytest.raises(TopologyError, match="already used"):
        graph.add("count", Count)
    with pytest.raises(TopologyError, match="already used"):
        graph.add("engine", Count)
    with pytest.raises(TopologyError, match="not a name"):
        graph.add("a.b", Count)


def test_a_cycle_needs_a_buffer() -> None:
    graph = graph_of(("count", Count), ("one", Add), ("two", Add))
    graph.connect("count", "one")
    graph.connect("one", "two")
    graph.connect("two", "one", where="test.yaml:9")
    with pytest.raises(TopologyError, match=r"test.yaml:9: cycle without a buffer: .*one -> two -> one|two -> one"):
        graph.check()
    graph.connections[-1].capacity = 4
    graph.check()
    assert [node.name for node in graph.order()] == ["count", "one", "two"]


def test_generated_pictures_never_reach_what_measures() -> None:
    graph = graph_of(("imagined", Imagined), ("see", Perception))
    graph.connect("imagined", "see")
    with pytest.raises(
        TopologyError, match=r"imagined.output carries generated pictures .*generated is never measured"
    ):
        graph.check()


def test_not_even_through_others() -> None:
    graph = graph_of(("imagined", Imagined), ("pass", PassThrough), ("see", Perception))
    graph.connect("imagined", "pass")
    graph.connect("pass", "see")
    with pytest.raises(TopologyError, match="see measures or alerts"):
        graph.check()


def test_generated_pictures_may_be_shown() -> None:
    graph = graph_of(("imagined", Imagined), ("pass", PassThrough))
    graph.connect("imagined", "pass")
    graph.check()


class Guard(PassThrough):
    guards_privacy = True


class Keeper(Operator):
    keeps_pictures = True

    class Config(Config):
        unguarded: bool = False

    input: Input[Any]


class Simulated(Frames):
    films_people = False


def test_a_camera_reaches_a_keeper_of_pictures_only_past_a_guard() -> None:
    graph = graph_of(("camera", Frames), ("pass", PassThrough), ("guard", Guard), ("keep", Keeper))
    graph.connect("camera", "pass")
    graph.connect("pass", "guard")
    graph.connect("guard", "keep")
    graph.check()
    graph.connect("pass", "keep", where="test.yaml:7")
    with pytest.raises(TopologyError, match=r"test.yaml:7: keep keeps pictures of camera that no privacy guard has"):
        graph.check()
    graph.nodes["keep"].config = Keeper.Config(unguarded=True)
    graph.check()


def test_simulated_pictures_show_nobody_and_numbers_are_no_pictures() -> None:
    graph = graph_of(("theatre", Simulated), ("count", Count), ("keep", Keeper))
    graph.connect("theatre", "keep")
    graph.connect("count", "keep")
    graph.check()


def test_a_graph_without_operators_or_sources_is_refused() -> None:
    with pytest.raises(TopologyError, match="no operators"):
        Graph("empty").check()
    with pytest.raises(TopologyError, match="no source"):
        graph_of(("add", Add)).check()


def test_the_digest_says_what_is_computed_and_not_how() -> None:
    one, two, three = (graph_of(("count", Count), ("add", Add)) for _ in range(3))
    for graph in (one, two, three):
        graph.connect("count", "add")
    two.nodes["add"].placement = "thread"
    three.nodes["add"].config = Add.Config(amount=2)
    assert one.digest() == two.digest() != three.digest()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=14))
@settings(max_examples=200, deadline=None)
def test_any_wiring_is_either_refused_or_ordered(edges: list[tuple[int, int, bool]]) -> None:
    graph = graph_of(("count", Count), *((f"n{i}", PassThrough) for i in range(6)))
    for i in range(6):
        graph.connect("count", f"n{i}")
    for source, target, buffered in edges:
        graph.connect(f"n{source}", f"n{target}", capacity=4 if buffered else None)
    try:
        graph.check()
    except TopologyError as error:
        assert "cycle without a buffer" in str(error)
        return
    place = {node.name: i for i, node in enumerate(graph.order())}
    assert len(place) == 7
    feedback = {id(connection) for connection in graph.feedback()}
    for connection in graph.connections:
        if id(connection) not in feedback:
            assert place[connection.source] < place[connection.target]
