"""Numerics and waveforms as one long table, in Parquet or CSV."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.message import NANOSECONDS, Array, Message, Numeric, Waveform

if TYPE_CHECKING:
    from pipeline.export import Subject

BATCH = 1 << 17
"""Rows written at a time."""
COLUMNS = ("stream", "kind", "channel", "code", "unit", "origin")


class TableSink:
    """One row a value: ``time`` (UTC, ns), ``value`` (float64), and ``stream``, ``kind`` (``numeric`` or ``waveform``),
    ``channel``, ``code`` (11073), ``unit`` (UCUM) and ``origin``.

    A value that the device did not have is NaN in Parquet and empty in CSV. Rows are in the order of the messages.
    """

    takes: ClassVar[tuple[type, ...]] = (Numeric, Waveform)

    def __init__(self, path: Path, subject: Subject, form: str) -> None:
        self.rows = 0
        self._end = subject.end
        self._csv = form == "csv"
        about = {"source": subject.reader.path.name, "origin": subject.reader.origin, "label": subject.label}
        fields: list[Any] = [("time", pa.timestamp("ns", tz="UTC")), ("value", pa.float64())]
        fields += [(name, pa.string()) for name in COLUMNS]
        self._schema = pa.schema(fields, metadata=about)
        if self._csv:
            self._writer: Any = pa.csv.CSVWriter(str(path), self._schema)
        else:
            self._writer = pa.parquet.ParquetWriter(str(path), self._schema, compression="zstd")
        self._keys: dict[tuple[str, ...], int] = {}
        self._pieces: list[tuple[Array, Array, int]] = []
        self._size = 0

    def write(self, message: Message[Any]) -> bool:
        payload = message.payload
        if isinstance(payload, Numeric):
            kind, times, values = "numeric", np.array([message.time]), np.array([payload.value])
        else:
            if not (math.isfinite(payload.rate) and payload.rate > 0):
                return False
            kind, values = "waveform", np.asarray(payload.values, np.float64)
            times = message.time + np.rint(np.arange(len(values)) * (NANOSECONDS / payload.rate)).astype(np.int64)
            inside = times < self._end
            times, values = times[inside], values[inside]
        key = (message.stream, kind, payload.channel, payload.code, payload.unit, message.origin)
        number = self._keys.setdefault(key, len(self._keys))
        self._pieces.append((times, values, number))
        self._size += len(times)
        if self._size >= BATCH:
            self._flush()
        return True

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if not self._pieces:
            return
        times = np.concatenate([piece[0] for piece in self._pieces])
        values = np.concatenate([piece[1] for piece in self._pieces])
        numbers = np.repeat([piece[2] for piece in self._pieces], [len(piece[0]) for piece in self._pieces])
        keys = list(self._keys)
        columns = [pa.array(times, pa.timestamp("ns", tz="UTC")), pa.array(values, from_pandas=self._csv)]
        for index in range(len(COLUMNS)):
            columns.append(pa.array([key[index] for key in keys], pa.string()).take(pa.array(numbers)))
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self.rows += len(times)
        self._pieces, self._size = [], 0
