"""`vigil demo`: a simulated operation, watched live, told over a genuine broker, scored against what was planted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from operators.theatre.reader import TheatreReader
from operators.theatre.score import score, told_of
from pipeline.broker import Broker
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.journal import JournalReader
from pipeline.kafka import KafkaSettings, subscribe
from pipeline.message import Alert

CASES = Path(__file__).parent / "cases"
LAST_SECONDS = 5.0
"""How long a told alert may be on its way after the run's end."""


@contextlib.contextmanager
def broker(folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The address of a broker that lives as long as this; empty where none can run here, and why is said."""
    made = Broker(folder)
    try:
        if not (shutil.which("java") and shutil.which("mvn")):
            raise VigilError("Java and Maven are not here")
        say("starting Apache Kafka")
        made.start()
    except VigilError as error:
        made.stop()
        say(f"no broker: {error.message}; alerts are told from the journal")
        yield ""
        return
    try:
        yield made.bootstrap
    finally:
        made.stop()


async def _from_journal(path: Path) -> AsyncIterator[Alert]:
    # Another thread makes the file; nothing in this loop could say so.
    while not path.exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.05)
    reader, after = JournalReader(path), 0
    try:
        while True:
            for entry in list(reader.entries(after)):
                after = entry.sequence
                if entry.kind == "alert":
                    yield entry.alert
            await asyncio.sleep(0.05)
    finally:
        reader.close()


async def run(
    case: str,
    build: Callable[[dict[str, str]], Graph],
    tell: Callable[[Alert], None],
    say: Callable[[str], None],
    beside: Callable[[Engine], contextlib.AbstractAsyncContextManager[None]] = lambda _: contextlib.nullcontext(),
) -> dict[str, Any]:
    """Play a case in real time, tell each alert as it arrives, and give the score as plain values.

    Args:
        case: name of a shipped case, or a path.
        build: makes the theatre's topology with values for its ``${NAME}``.
        tell: is given each alert revision that a subscriber received.
        say: is given one line about what is going on.
        beside: is entered while the engine runs, such as what draws its state on a terminal.

    Raises:
        VigilError: where the case or the topology cannot be run.
    """
    path = CASES / f"{case}.yaml"
    reader = TheatreReader(path if path.exists() else Path(case))
    told: list[Alert] = []
    with tempfile.TemporaryDirectory(prefix="vigil-demo-") as name, broker(Path(name) / "kafka", say) as bootstrap:
        data = Path(name) / "data"
        engine = Engine(build({"CASE": str(reader.path), "KAFKA": bootstrap}), RunOptions(data=data, case=case))

        async def listen() -> None:
            journal = _from_journal(data / "journal.db")
            source = subscribe(KafkaSettings(bootstrap=bootstrap), beginning=True) if bootstrap else journal
            async for alert in source:
                told.append(alert)
                tell(alert)

        say(f"{reader.case.duration:.0f} s of a simulated operation begin")
        listening = asyncio.create_task(listen())
        try:
            async with beside(engine):
                await engine.run()
            await _arrived(data / "journal.db", told, listening)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    found = score(reader.case.truth(), told_of(told)).plain()
    return {"case": case, "told_by": "kafka" if bootstrap else "journal", **found}


async def _arrived(journal: Path, told: list[Alert], listening: asyncio.Task[None]) -> None:
    """Wait until everything in the journal has been told."""
    reader = JournalReader(journal)
    wanted = sum(entry.kind == "alert" for entry in reader.entries())
    reader.close()
    for _ in range(round(LAST_SECONDS / 0.05)):
        if len(told) >= wanted or listening.done():
            break
        await asyncio.sleep(0.05)
    if listening.done():
        listening.result()
