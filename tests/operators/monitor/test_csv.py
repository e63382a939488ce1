"""CSV: wide and long tables, gaps as no data, and an answer to everything that is no table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.monitor.csv import CsvReader
from operators.monitor.source import CsvFile
from pipeline.errors import RecordingError
from pipeline.message import Event, Numeric, Waveform

S = 1_000_000_000


def write(folder: Path, text: str) -> Path:
    path = folder / "case.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_wide_table(tmp_path: Path) -> None:
    path = write(tmp_path, "time;HR [/min];ABP_MEAN (mmHg);note\n2026-01-31T09:30:00Z;70;80;\n"
                 "2026-01-31T09:30:01Z;;81;cuff on\n2026-01-31T09:30:02Z;nan;0;\n")  # fmt: skip
    messages = list(CsvReader(path).messages())
    found = [(m.stream, m.payload.value) for m in messages if isinstance(m.payload, Numeric)]
    assert found == [
        ("numerics/CSV/ABP_MEAN", 80.0), ("numerics/CSV/HR", 70.0), ("numerics/CSV/ABP_MEAN", 81.0),
        ("numerics/CSV/ABP_MEAN", 0.0),
    ]  # fmt: skip
    assert [m.payload.text for m in messages if isinstance(m.payload, Event)] == ["cuff on"]
    pressure = messages[0].payload
    assert (pressure.code, pressure.unit) == ("MDC_PRESS_BLD_ART_ABP_MEAN", "mm[Hg]")
    assert messages[0].time == 1_769_851_800 * S


def test_a_long_table(tmp_path: Path) -> None:
    path = write(tmp_path, "22-08-2017 08:30:35,PEEP,5\n22-08-2017 08:30:36,PEEP,\n22-08-2017 08:30:37,PEEP,6\n"
                 "22-08-2017 08:30:37,Mode,Mode MAN/SPONT\n")  # fmt: skip
    messages = list(CsvReader(path).messages())
    assert [(m.stream, m.time // S % 60) for m in messages] == [
        ("numerics/CSV/PEEP", 35), ("events/CSV/Mode", 37), ("numerics/CSV/PEEP", 37),
    ]  # fmt: skip


def test_even_fast_columns_are_waveforms_in_chunks_and_gaps_are_nothing(tmp_path: Path) -> None:
    rows = [f"{i / 100},{i % 9}" for i in range(500) if not 200 <= i < 250]
    path = write(tmp_path, "time,ABP [mmHg]\n" + "\n".join(rows))
    messages = list(CsvFile(path=path, name="monitor").run())
    assert {type(m.payload) for m in messages} == {Waveform}
    assert all(len(m.payload.values) == 10 and m.payload.rate == 100 for m in messages)
    assert len(messages) == 45
    assert not [m for m in messages if 2 * S <= m.time < 2.5 * S]
    values = np.concatenate([m.payload.values for m in messages])
    assert values.tolist() == [i % 9 for i in range(500) if not 200 <= i < 250]
    assert messages[0].stream == "monitor.waveforms/CSV/ABP"


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    reader = CsvReader(write(tmp_path, "time,HR\n1,60\nlater,61\n3,62,63\n4,64\n"))
    assert [m.payload.value for m in reader.messages()] == [60, 64]
    assert [warning.split(" left")[0] for warning in reader.warnings] == ["line 3", "line 4"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "there is no table"), (b"\0\0\0", "there is no table"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "there is no table"),
        (b"just words\nand more", "there is no table"), (b"1,2\n3,4", "has to name the columns"),
        (b"time,HR\n" + b"x,1\n" * 2000, "more than 1000 rows"), (b"a" + b",b" * 3000, "columns"),
        (b"time,HR,HR\n1,2,3", "two columns are called"), (b'time,"' + b"x" * 200_000, "is not CSV"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_said_with_its_place(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=expected) as error:
        CsvReader(path)
    assert str(path) in error.value.where


def attack(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        reader = CsvReader(path)
    except RecordingError as error:
        assert str(path) in str(error)
        return
    last = None
    for message in reader.messages():
        assert last is None or message.order > last
        last = message.order
        if isinstance(message.payload, Numeric):
            assert math.isnan(message.payload.value) or math.isfinite(message.payload.value)


CELL = st.sampled_from(["1", "2.5", "", "nan", "inf", "1e400", "-3", "2026-01-31", "0001-01-01", "99999999999", '"',
                        "x;y", "HR [/min]", "22-08-2017 08:30:35", "30-02-2017 08:30:35", "\t", "9" * 70])  # fmt: skip
TABLE = st.lists(st.lists(CELL, max_size=5).map(",".join), max_size=8).map(lambda rows: "\n".join(["time,HR,x", *rows]))


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(TABLE.map(str.encode), st.binary(max_size=300)))
def test_no_bytes_crash_the_reader(tmp_path: Path, data: bytes) -> None:
    attack(tmp_path / "x.csv", data)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_tables(tmp_path: Path) -> None:
    whole = ("time,HR [/min],ABP\n" + "\n".join(f"{i / 50},{60 + i % 3},{i % 7}" for i in range(40))).encode()
    chance = np.random.default_rng(20261124)
    for _ in range(100_000):
        data = bytearray(whole)
        for at, value in chance.integers(0, [len(whole), 256], (int(chance.integers(0, 8)), 2)):
            data[at] = value
        attack(tmp_path / "x.csv", bytes(data[: int(chance.integers(0, len(data) + 1))]))
