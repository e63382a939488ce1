"""Figures of beats, rates and arrhythmia alarms, each beside a named baseline of the same run.

Alarms: simulated by mechanism (``records``), held-out seeds and ranges, thresholds frozen before. Sensitivity to real
lethal arrhythmia is NOT shown. Beats and rates: real recordings, where they are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from operators.monitor.beats import Beats
from operators.monitor.beats.library import LIBRARY, SYMBOLS, match, ours, ours_times, run
from operators.monitor.quality import SignalQuality
from operators.monitor.rhythm import Rhythm, challenge
from operators.monitor.rhythm.records import HELD_OUT, Record, records
from operators.monitor.vital import VitalReader
from operators.monitor.waveform_database import WfdbReader
from operators.recordings import shared_data
from pipeline.bench import BenchOptions, Row
from pipeline.message import NANOSECONDS, AlertCondition, Array, Message, Numeric, Waveform
from pipeline.operator import Operator
from pipeline.testing import run_operator

SIMULATED = "simulated alarms by mechanism (operators/monitor/rhythm/records.py); not real arrhythmia"
HELD = "thresholds frozen on development seeds and ranges; measured on held-out seeds, wider ranges, unseen mechanisms"
START = 1_767_225_600 * NANOSECONDS
PROMPT = 10.0
"""Seconds after the onset, or after the definition is met, within which an alarm counts as prompt."""


def rows(options: BenchOptions) -> list[Row]:
    """All rows; those on real recordings only where ``shared_data`` finds them."""
    found = [*_alarms(options), *_live(options), _standstill(options)]
    folder = shared_data()
    if folder is None:
        options.progress("rhythm: the real recordings are not here; rows on them are left out")
        return found
    return [*found, *_beats(options, folder), *_monitor(options, folder), *_operation(options, folder)]


# ----------------------------------------------------------------------------------------- simulated


def _alarms(options: BenchOptions) -> Iterator[Row]:
    count = 15 if options.quick else 250
    options.progress(f"rhythm: {2 * count} simulated alarms are judged")
    made = [
        record for true in (True, False)
        for record in records(HELD_OUT, count, true=true, seed=options.seed)
    ]  # fmt: skip
    truth = np.array([record.true for record in made])
    kept = np.array([challenge.rules(record) for record in made])
    ones, none = np.ones(len(made), bool), np.zeros(len(made), bool)
    common: dict[str, Any] = {"data": SIMULATED, "split": HELD}

    def value(what: str, verdicts: Array) -> Callable[[Array], float]:
        return lambda index: getattr(challenge.score(truth[index].tolist(), verdicts[index].tolist()), what)

    whole = np.arange(len(made))
    for name, what, other_name, other, least in (
        ("CinC 2015 score, simulated alarms", "value", "keep all", ones, 85.0),
        ("CinC 2015 score, simulated alarms, against suppressing all", "value", "suppress all", none, None),
        ("sensitivity to true alarms, simulated", "sensitivity", "keep all", ones, 0.98),
        ("false alarms suppressed, simulated", "specificity", "keep all", ones, None),
    ):
        figure, baseline = value(what, kept)(whole), value(what, other)(whole)
        yield Row(
            name, figure, "points" if what == "value" else "share", other_name, baseline,
            figure / baseline if baseline else None, "" if least is None else f">= {least:g}",
            None if least is None else figure >= least, **common,
            interval=_bootstrap(value(what, kept), made, options.seed),
        )  # fmt: skip


def _bootstrap(figure: Callable[[Array], float], made: Sequence[Record], seed: int) -> tuple[float, float]:
    """95 % interval over patients; every simulated record is a patient of its own."""
    random = np.random.default_rng(seed)
    drawn = [figure(random.integers(0, len(made), len(made))) for _ in range(400)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _mean_interval(values: Array, made: Sequence[Record], seed: int) -> tuple[float, float]:
    return _bootstrap(lambda index: float(values[index].mean()), made, seed)


def _messages(record: Record) -> list[Message[Waveform]]:
    said = []
    for signal in record.signals:
        size = round(0.25 * signal.rate)
        for sequence, at in enumerate(range(0, len(signal.values), size)):
            when = START + round(at / signal.rate * NANOSECONDS)
            wave = Waveform(signal.name, signal.code, signal.unit, signal.rate, signal.values[at : at + size])
            said.append(Message(f"monitor.waveforms/{signal.name}", when, sequence, wave, "simulated"))
    return sorted(said, key=lambda message: message.order)


def told(messages: Sequence[Message[Any]], **options: Any) -> list[Message[AlertCondition]]:
    """What ``Rhythm`` tells people when it hears these waveforms: beginnings only, nothing that it rejected."""
    answers = run_operator(Rhythm(name="rhythm", **options), messages, port="waveforms")
    return [m for m in answers if m.payload.present and not m.payload.suppressed_by]


def prompt(record: Record) -> tuple[bool, bool]:
    """Was a lethal arrhythmia told, and was it by its own name, from the onset on and at most 10 s after it (or 3 s
    after the monitor's own alarm, where that is later)?

    The second limit is for slow rhythms: five beats at 20/min take 12 s.
    """
    onset = START + round(record.onset * NANOSECONDS)
    limit = START + round(max(record.onset + PROMPT, record.alarm + 3) * NANOSECONDS)
    codes = [m.payload.code for m in told(_messages(record)) if onset <= m.time <= limit]
    return bool(codes), record.kind in codes


def _live(options: BenchOptions) -> Iterator[Row]:
    count = 5 if options.quick else 80
    options.progress(f"rhythm: {2 * count} simulated records are watched as they come")
    true = records(HELD_OUT, count, true=True, seed=options.seed)
    in_time = np.array([prompt(record) for record in true], float)
    for column, name in enumerate(("told as a lethal arrhythmia", "told by its own name")):
        share = in_time[:, column]
        yield Row(
            f"true arrhythmia {name} within 10 s", float(share.mean()), "share", "no rule", 0.0, None, data=SIMULATED,
            split=HELD, interval=_mean_interval(share, true, options.seed),
        )  # fmt: skip
    false = records(HELD_OUT, count, true=False, seed=options.seed)
    streams = [_messages(record) for record in false]
    quiet = np.array([not told(stream) for stream in streams], float)
    alone = np.array([not told(stream, adjudicate=False) for stream in streams], float)
    yield Row(
        "records with a feigned arrhythmia that stay quiet", float(quiet.mean()), "share",
        "definitions on any good lead, without other signals", float(alone.mean()),
        float(quiet.mean() / alone.mean()) if alone.any() else None, data=SIMULATED, split=HELD,
        interval=_mean_interval(quiet, false, options.seed),
    )  # fmt: skip


def _standstill(options: BenchOptions) -> Row:
    """Beats that a detector invents while the heart stands still."""
    made = [
        record for record in records(HELD_OUT, 20 if options.quick else 200, true=True, seed=options.seed)
        if record.kind == "asystole" and not record.artefact
    ]  # fmt: skip
    invented: dict[str, list[int]] = {"ours": [], "library": []}
    seconds = []
    for record in made:
        values = np.asarray(record.signals[0].values, np.float64)
        seconds.append(len(values) / 250 - record.onset - 0.5)
        for name, times in (
            ("ours", ours_times(values, 250.0)), ("library", run("neurokit2 rodrigues2021", values, 250.0)),
        ):  # fmt: skip
            invented[name].append(int((times > record.onset + 0.5).sum()))
    share = {name: 60 * sum(counts) / sum(seconds) for name, counts in invented.items()}
    return Row(
        "beats invented in a standstill", share["ours"], "per minute", "neurokit2 rodrigues2021", share["library"],
        share["ours"] / share["library"] if share["library"] else None, "<= 1 per minute", share["ours"] <= 1,
        data="simulated standstill, clean", split=HELD,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- real


def mit_bih(folder: Path, name: str, seconds: float = 1e9) -> tuple[Array, Array, float]:
    """Lead 1 in mV, the reference beats in s, and the rate of a record with ``.atr`` annotations."""
    reader = WfdbReader(folder / "wfdb" / f"{name}.hea", chunk_seconds=1.0)
    waves = [track for track in reader.tracks if track.payload == "Waveform"]
    lead: Any = next(track for track in waves if track.stream.endswith("MLII"))
    marks: Any = next(track for track in reader.tracks if track.stream.endswith("/atr"))
    beats = [
        (when - reader.begin) / NANOSECONDS
        for when, event in zip(marks.times.tolist(), marks.events, strict=True) if event.text in SYMBOLS
    ]  # fmt: skip
    reference = np.array(beats)
    values = np.asarray(lead.values[: round(min(seconds, 1e6) * lead.rate)], np.float64)
    return values, reference[reference < len(values) / lead.rate], lead.rate


def _beats(options: BenchOptions, folder: Path) -> Iterator[Row]:
    names = ["wfdb xqrs"] if options.quick else list(LIBRARY)
    length = 300.0 if options.quick else 1e9
    for record, least in (("100", 0.99), ("105", 0.97)):
        options.progress(f"rhythm: beats of MIT-BIH {record}, by {len(names)} library detectors as well")
        values, reference, rate = mit_bih(folder, record, length)
        began = time.process_time()
        figure = match(reference, ours_times(values, rate)).f1
        spent = time.process_time() - began
        others = {name: match(reference, run(name, values, rate)).f1 for name in names}
        best = max(others, key=lambda name: others[name])
        listed = ", ".join(f"{name.split()[-1]} {value:.4f}" for name, value in others.items())
        yield Row(
            f"R-peak F1, MIT-BIH {record}", figure, "F1", f"{best}, best of: {listed}", others[best],
            figure / others[best], f">= {least:g}", figure >= least,
            data=f"real: MIT-BIH {record}, lead MLII, tolerance 75 ms, one patient",
            split="no split: the filter's band was chosen among five with 105 in view",
        )  # fmt: skip
        if record == "100":
            speed = len(values) / rate / spent
            yield Row(
                "beats of one lead at 360 Hz", speed, "x real time", goal=">= 200", met=speed >= 200,
                data="real: MIT-BIH 100",
            )  # fmt: skip
    if not options.quick:
        for record in ("100", "105"):
            reader = WfdbReader(folder / "wfdb" / f"{record}.hea")
            waves = [message for message in reader.messages() if type(message.payload) is Waveform]
            hours = (waves[-1].time - waves[0].time) / NANOSECONDS / 3600
            yield _per_hour(f"MIT-BIH {record}, two leads and no pulse", waves, hours)


def _per_hour(name: str, waves: Sequence[Message[Any]], hours: float) -> Row:
    ours_told, alone = len(told(waves)) / hours, len(told(waves, adjudicate=False)) / hours
    return Row(
        f"false arrhythmia alerts, {name}", ours_told, "per hour", "definitions on any good lead", alone,
        ours_told / alone if alone else None, data="real: no lethal arrhythmia in it",
    )  # fmt: skip


def _monitor(options: BenchOptions, folder: Path) -> Iterator[Row]:
    options.progress("rhythm: the false asystole alarm of a103l")
    verdict = challenge.judge(challenge.load(folder / "wfdb" / "a103l.hea"))
    yield Row(
        f"a103l, false asystole alarm suppressed ({verdict.reason})", float(not verdict.true), "share", "the monitor",
        0.0, None, "== 1", not verdict.true, data="real: CinC 2015 a103l, one record",
    )  # fmt: skip


def _operation(options: BenchOptions, folder: Path) -> Iterator[Row]:
    options.progress("rhythm: the real operation")
    reader = VitalReader(folder / "or_intellivue" / "or_case1.vital")
    begin = min(info.start for info in reader.streams())
    upto = begin + 300 * NANOSECONDS if options.quick else None
    messages = list(reader.messages(begin, upto))
    waves = [m for m in messages if type(m.payload) is Waveform and m.payload.channel.startswith("Intellivue/")]
    hours = (waves[-1].time - waves[0].time) / NANOSECONDS / 3600
    alerts = _per_hour("real operation with drop-outs", waves, hours)
    yield Row(**{**_fields(alerts), "goal": "== 0", "met": alerts.value == 0})
    for name, operator in (("quality", SignalQuality()), ("beats and rates", Beats()), ("rhythm", Rhythm())):
        yield Row(
            f"{name} of 4 waveforms, 750 + 125 samples a second", _speed(operator, waves, hours), "x real time",
            data="real: or_case1.vital",
        )  # fmt: skip
    yield from _rates(messages, waves)
    yield _pulses(waves)


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _speed(operator: Operator, waves: Sequence[Message[Any]], hours: float) -> float:
    began = time.process_time()
    run_operator(operator, waves, port="waveforms")
    return hours * 3600 / (time.process_time() - began)


def _rates(messages: Sequence[Message[Any]], waves: Sequence[Message[Any]]) -> Iterator[Row]:
    """Our heart rate against the monitor's own."""
    theirs = np.array([
        (m.time, m.payload.value) for m in messages
        if type(m.payload) is Numeric and m.payload.channel == "Intellivue/HR"
    ])  # fmt: skip
    shares = []
    for patterns in (("*",), ("*/ECG_II",)):
        said = run_operator(Beats(name="beats", channels=patterns), waves)
        own = np.array(
            [(m.time, m.payload.value) for m in said if getattr(m.payload, "channel", "") == "Vigil/HEART_RATE"]
        )
        given = np.interp(theirs[:, 0], own[:, 0], own[:, 1])
        off = np.abs(given - theirs[:, 1])
        known = np.isfinite(off)
        shares.append((float(np.mean(off[known] > 5)), float(1 - known.mean())))
    (wrong, silent), (alone_wrong, alone_silent) = shares
    data = "real: or_case1.vital, against the IntelliVue's own heart rate"
    yield Row("heart rate off by more than 5/min", wrong, "share", "one lead, no agreement", alone_wrong, data=data)
    yield Row("seconds without a heart rate", silent, "share", "one lead, no agreement", alone_silent, data=data)


def _pulses(waves: Sequence[Message[Any]]) -> Row:
    """One pulse a heart beat: the oximeter's pulses against the R waves, shifted by their usual delay."""
    import neurokit2

    whole: dict[str, Array] = {}
    for channel in ("Intellivue/ECG_II", "Intellivue/PLETH"):
        parts = [m.payload for m in waves if m.payload.channel == channel]
        whole[channel] = np.nan_to_num(np.concatenate([part.values for part in parts]).astype(np.float64))
    hearts = ours_times(whole["Intellivue/ECG_II"], 500.0)
    pleth = whole["Intellivue/PLETH"]
    feet = np.array([beat.time / NANOSECONDS for beat in ours(pleth, 125.0, "pleth")])
    clean = neurokit2.ppg_clean(pleth, sampling_rate=125)
    peaks = np.asarray(neurokit2.ppg_findpeaks(clean, sampling_rate=125)["PPG_Peaks"]) / 125
    ones = []
    for pulses in (feet, peaks):
        delay = float(np.median(pulses[1:-1] - hearts[np.searchsorted(hearts, pulses[1:-1]) - 1]))
        ones.append(match(hearts + delay, pulses, 0.15).f1)
    return Row(
        "one pulse of the oximeter a heart beat", ones[0], "F1", "neurokit2 ppg_findpeaks (Elgendi)", ones[1],
        ones[0] / ones[1], data="real: or_case1.vital; reference: R waves by our own detector, tolerance 150 ms",
    )  # fmt: skip
