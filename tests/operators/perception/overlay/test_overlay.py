"""The overlay on drawn pictures: values, evidence, alerts, and what happens where there is nothing to read."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.perception.overlay import Overlay, models
from operators.perception.overlay.drawn import Style
from pipeline import registry
from pipeline.errors import VigilError
from pipeline.message import AlertCondition, Array, Detection, Event, Message, Numeric, VideoFrame
from pipeline.testing import run_operator
from tests.operators.perception.overlay.screens import BLACK, ROOM, SECOND, body, pictures, stream


def run(images: list[Array], **options: Any) -> list[Message[Any]]:
    return run_operator(Overlay(name="overlay", **options), stream(images))


def payloads(said: list[Message[Any]], kind: type) -> list[Any]:
    return [message.payload for message in said if isinstance(message.payload, kind)]


def values(said: list[Message[Any]], channel: str = "Overlay/PATIENT_PRESSURE") -> list[tuple[int, float]]:
    return [
        (message.time // SECOND, message.payload.value)
        for message in said if isinstance(message.payload, Numeric) and message.payload.channel == channel
    ]  # fmt: skip


def told(said: list[Message[Any]]) -> list[AlertCondition]:
    return [condition for condition in payloads(said, AlertCondition) if not condition.suppressed_by]


def test_it_is_registered() -> None:
    assert registry.operator("perception.overlay") is Overlay


def test_values_come_with_unit_confidence_box_frame_and_strokes() -> None:
    said = run(pictures([14, 13], flow=2.5))
    assert values(said) == [(0, 14.0), (1, 13.0)]
    assert values(said, "Overlay/GAS_FLOW") == [(0, 2.5), (1, 2.5)]
    assert {(n.channel, n.code, n.unit) for n in payloads(said, Numeric)} == {
        ("Overlay/PATIENT_PRESSURE", "", "mm[Hg]"), ("Overlay/GAS_FLOW", "", "L/min"),
    }  # fmt: skip
    seen = [d for d in payloads(said, Detection) if d.label == "patient_pressure"]
    assert [(d.frame, d.attributes["text"]) for d in seen] == [(0, "14"), (1, "13")]
    assert all(0.35 <= d.score <= 1 for d in seen)
    x, y, w, h = seen[0].box
    assert 64 < x < x + w < 320
    assert 650 < y < y + h < 720
    assert seen[0].attributes["crop"].shape == (h, w)
    assert seen[0].attributes["crop"].dtype == np.uint8
    assert {message.origin for message in said} == {"simulated"}
    assert [event.kind for event in payloads(said, Event)] == ["overlay_found"]


def test_the_evidence_shows_letters_and_nothing_of_the_scene_behind_them() -> None:
    said = run(pictures([14], ground=body()))
    crop = next(d for d in payloads(said, Detection) if d.label == "patient_pressure").attributes["crop"]
    assert np.median(crop) <= 8
    assert "crop" not in payloads(run(pictures([14]), crops=False), Detection)[0].attributes


@pytest.mark.parametrize("form", ["nv12", "rgb24", "gray"])
def test_every_format_of_picture_is_read(form: Any) -> None:
    messages = stream(pictures([14]), form=form)
    assert values(run_operator(Overlay(name="overlay"), messages)) == [(0, 14.0)]


def test_one_reading_a_second_of_event_time_whatever_the_frame_rate() -> None:
    said = run_operator(Overlay(name="overlay"), stream(pictures([14] * 51), every=0.04))
    assert [time for time, _ in values(said)] == [0, 1, 2]


def test_a_crop_that_does_not_change_is_read_twice_and_no_more() -> None:
    overlay = Overlay(name="overlay")
    overlay.setup()
    counts = []
    for message in stream(pictures([14] * 6)):
        list(overlay.process(message) or ())
        assert overlay._reader is not None
        counts.append(overlay._reader.calls)
    assert counts[1] > counts[0]
    assert counts[5] == counts[1]


def test_pressure_above_the_limit_for_ten_seconds_is_told_with_its_evidence_and_its_end() -> None:
    said = run(pictures([14, 14, *[18] * 14, *[14] * 8], flow=0.0))
    begin, end = told(said)
    assert (begin.code, begin.present, begin.priority, begin.kind, begin.subject) == (
        "insufflator_pressure_high", True, "medium", "physiological", "scope",
    )  # fmt: skip
    assert begin.onset == end.onset == 2 * SECOND
    assert next(m.time for m in said if m.payload is begin) == 12 * SECOND
    assert (begin.value, begin.limit, begin.unit) == (18, 15, "mm[Hg]")
    assert begin.evidence[0].values == (18,)
    assert begin.evidence[0].stream == "camera.video/scope"
    assert "PP-OCRv6_rec_small.onnx 6f327246b50388f3" in begin.evidence[0].note
    assert (end.present, end.ended) == (False, 17 * SECOND)  # 16 s is the first reading below, 17 s the second


def test_high_pressure_that_does_not_last_is_suppressed_and_one_reading_alone_too() -> None:
    said = run(pictures([14, 14, 17, 17, 17, 14, 14, 14, 30, 14, 14]))
    assert told(said) == []
    assert [(c.suppressed_by, c.onset // SECOND) for c in payloads(said, AlertCondition)] == [
        ("lasted 2.0 s", 2), ("seen once", 8),
    ]  # fmt: skip


def test_two_readings_are_needed_even_without_a_delay() -> None:
    said = run(pictures([14, 20, 20, 20]), delay_seconds=0)
    [begin, end] = told(said)
    assert (begin.present, begin.onset) == (True, SECOND)
    assert next(m.time for m in said if m.payload is begin) == 2 * SECOND
    assert "no longer watched" in end.text


def test_pressure_at_the_limit_is_not_above_it() -> None:
    assert payloads(run(pictures([15] * 14)), AlertCondition) == []


GAS_OFF = "Insufflator: Gas Off"


def test_gas_off_inside_the_body_is_told_and_ends_with_flow() -> None:
    images = pictures([9] * 4, flow=0.0, message=GAS_OFF, ground=body())
    images += pictures([9] * 4, flow=0.0, ground=body()) + pictures([9] * 9, flow=3.5, ground=body())
    said = run(images)
    begin, end = (condition for condition in told(said) if condition.code == "insufflator_gas_off")
    assert (begin.present, begin.onset // SECOND, begin.kind) == (True, 0, "technical")
    assert next(m.time for m in said if m.payload is begin) == SECOND
    assert end.ended is not None
    assert 8 * SECOND <= end.ended <= 10 * SECOND  # its notice was gone from 4 s on
    assert [event.kind for event in payloads(said, Event)] == ["overlay_found", "gas_off"]


def test_gas_off_outside_the_body_is_suppressed_once() -> None:
    said = run(pictures([0] * 4, flow=0.0, message=GAS_OFF, ground=ROOM))
    assert [(c.code, c.suppressed_by) for c in payloads(said, AlertCondition)] == [
        ("insufflator_gas_off", "out of the body")
    ]
    always = run(pictures([0] * 4, flow=0.0, message=GAS_OFF, ground=ROOM), in_body="always")
    assert told(always)[0].code == "insufflator_gas_off"


def test_a_lost_device_is_told_when_it_was_seen_twice() -> None:
    images = pictures([14] * 3, message="Lost Device") + pictures([14] * 9)
    said = run(images)
    begin, end = told(said)
    assert (begin.code, begin.priority, begin.onset) == ("lost_device", "low", 0)
    assert next(m.time for m in said if m.payload is begin) == SECOND
    assert (end.present, end.ended) == (False, 3 * SECOND)
    once = run(pictures([14], message="Lost Device") + pictures([14] * 2))
    assert [c.suppressed_by for c in payloads(once, AlertCondition)] == ["seen once"]


def test_a_message_that_comes_later_in_its_line_is_seen_at_the_next_reading() -> None:
    said = run(pictures([14] * 3) + pictures([14] * 3, message="Lost Device"), sweep_seconds=0)
    assert [m.time // SECOND for m in said if isinstance(m.payload, Event)] == [0, 4]


def spy(overlay: Overlay) -> list[int]:
    """Counts the searches of whole pictures, which really run."""
    assert overlay._finder is not None
    found: list[int] = []
    real: Callable[..., Any] = overlay._finder.boxes

    def boxes(picture: Array, *rest: Any) -> Any:
        found.append(picture.shape[1])
        return real(picture, *rest)

    overlay._finder.boxes = boxes  # type: ignore[method-assign]
    return found


def feed(overlay: Overlay, messages: list[Message[VideoFrame]]) -> list[Message[Any]]:
    return [said for message in messages for said in (overlay.process(message) or ())]


def test_without_an_overlay_the_whole_picture_is_searched_every_thirty_seconds_only() -> None:
    overlay = Overlay(name="overlay")
    overlay.setup()
    searches = spy(overlay)
    assert feed(overlay, stream([body()] * 65)) == []
    assert len(searches) == 3  # at 0, 30 and 60 s
    black = Overlay(name="overlay")
    black.setup()
    searches = spy(black)
    assert feed(black, stream([BLACK] * 65)) == []
    assert searches == []


def test_after_black_the_overlay_is_found_at_once_and_a_loss_is_told() -> None:
    said = run([BLACK] * 3 + pictures([14] * 3) + pictures([None] * 7, ground=ROOM))
    assert [time for time, _ in values(said)] == [3, 4, 5]
    assert [(m.payload.kind, m.time // SECOND) for m in said if isinstance(m.payload, Event)] == [
        ("overlay_found", 3), ("overlay_lost", 10),
    ]  # fmt: skip


def test_another_size_of_picture_is_searched_at_once() -> None:
    big = Style(size=(1920, 1080))
    said = run(pictures([14] * 2) + pictures([16] * 2, style=big) + pictures([12] * 2))
    assert values(said) == [(0, 14), (1, 14), (2, 16), (3, 16), (4, 12), (5, 12)]


def test_a_label_that_is_no_longer_there_takes_its_number_with_it() -> None:
    other = Style(words=("Actual gas flow", "Oxygen saturation"))
    said = run(pictures([14] * 2) + pictures([22] * 3, style=other))
    assert values(said) == [(0, 14), (1, 14)]


def test_an_overlay_that_moved_is_found_again() -> None:
    moved = Style(corner=(0.4, 0.1))
    said = run(pictures([14] * 2) + pictures([12] * 40, style=moved))
    assert values(said)[:2] == [(0, 14), (1, 14)]
    assert values(said)[2] == (30, 12)


def test_a_restart_goes_on_where_it_was_and_does_not_search_again() -> None:
    messages = stream(pictures([14, *[18] * 13, *[14] * 8]))
    whole = run_operator(Overlay(name="overlay"), messages)
    first, second = Overlay(name="overlay"), Overlay(name="overlay")
    first.setup()
    said = feed(first, messages[:6])
    second.setup()
    second.load_state(json.loads(json.dumps(first.state())))
    searches = spy(second)
    said += feed(second, messages[6:])
    assert searches == []
    assert payloads(said, AlertCondition) == payloads(whole, AlertCondition)
    assert values(said) == values(whole)


def test_the_same_pictures_always_say_the_same() -> None:
    images = pictures([14, 18, 18], flow=7.4, ground=body())

    def plain(said: list[Message[Any]]) -> list[str]:
        return [repr((m.time, m.stream, m.payload)) for m in said]

    assert plain(run(images)) == plain(run(images))


def test_pictures_that_are_no_pictures_are_passed_over() -> None:
    small = np.zeros((8, 8), np.uint8)
    good = stream(pictures([14]))[0].payload
    bad = [
        VideoFrame(8, 8, "gray", (small,)), VideoFrame(1280, 720, "gray", (small,)),
        VideoFrame(1280, 720, "yuv420p", ()), VideoFrame(1280, 720, "gray", (np.zeros((720, 1280), np.float32),)),
        VideoFrame(1280, 720, "yuv420p", good.planes, corrupt=True),
    ]  # fmt: skip
    messages = [Message("camera.video/scope", i * SECOND, i, frame) for i, frame in enumerate([*bad, good])]
    assert values(run_operator(Overlay(name="overlay"), messages)) == [(5, 14.0)]


def test_noise_gives_no_number() -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (360, 640, 3), np.uint8) for _ in range(2)]
    assert payloads(run(noise), Numeric) == []


def test_no_network_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody opened a socket")

    overlay = Overlay(name="overlay", in_body="always")
    messages = stream(pictures([14] * 2))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    overlay.setup()
    assert values(feed(overlay, messages)) == [(0, 14), (1, 14)]


def test_another_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "folder", lambda: tmp_path)
    with pytest.raises(VigilError, match="not in RapidOCR's wheel"):
        models.Reader()
    (tmp_path / "PP-OCRv6_rec_small.onnx").write_bytes(b"something else")
    with pytest.raises(VigilError, match="not the text model"):
        models.Reader()


def test_the_rule_names_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Overlay(name="overlay").rule()
    monkeypatch.setattr(models, "fingerprint", lambda: "rapidocr 9")
    assert Overlay(name="overlay").rule().digest != one.digest


def test_the_baseline_reads_the_whole_picture_and_believes_it() -> None:
    said = run(pictures([14], flow=2.5), baseline=True)
    assert values(said) == [(0, 14.0)]
    assert values(said, "Overlay/GAS_FLOW") == [(0, 2.5)]
