"""The command line, as a program would use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

HEAD = "time,ABP_MEAN\n"


def vigil(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("topology") / "short.yaml"
    path.write_text(
        "operators:\n"
        "  theatre: {use: theatre, with: {case: '${CASE:-eventful}', video: false}}\n"
        "  hypotension: {use: monitor.hypotension, from: {numerics: theatre.numerics, waveforms: theatre.waveforms}}\n"
        "  alerts: {use: alerts, from: hypotension.conditions}\n"
    )
    return path


def test_help_teaches() -> None:
    text = vigil("--help").stdout
    for command in ("replay", "launch", "inspect", "export", "bench", "schema"):
        assert command in text
    assert "never the only alarm" in text


@pytest.mark.parametrize(
    ("arguments", "place", "mend"),
    [
        (["replay", "nothing.vital"], "nothing.vital", ""),
        (["replay", "nothing.vitl"], "nothing.vitl", "known: "),
        (["launch", "monitr"], "monitr", "did you mean 'monitor'?"),
        (["launch", "monitor", "--set", "CASE"], "--set CASE", "NAME=VALUE"),
        (["bench", "engin"], "'engin'", "did you mean 'engine'?"),
        (["inspect", "nothing.mcap"], "nothing.mcap", ""),
    ],
)
def test_a_mistake_names_the_place_and_the_mend(arguments: list[str], place: str, mend: str) -> None:
    said = vigil(*arguments, expect=2).stderr
    assert place in said
    assert mend in said
    assert "Traceback" not in said


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(vigil("schema").stdout))


def test_a_launch_of_a_simulated_case_and_every_replay_of_it_tell_the_same(topology: Path) -> None:
    import operators.theatre

    case = Path(operators.theatre.__path__[0]) / "cases" / "eventful.yaml"
    runs = [documents(vigil("replay", case, "-t", topology, "--speed", speed, "--json")) for speed in ("max", "40")]
    for run in runs:
        alerts = [line["alert"] for line in run if "alert" in line]
        assert alerts
        assert {alert["origin"] for alert in alerts} == {"simulated"}  # type: ignore[index]
    digests = {run[-1]["summary"]["digest"] for run in runs}  # type: ignore[index]
    assert len(digests) == 1
    assert vigil("replay", case, "-t", topology, "--speed", "max", "--digest").stdout.strip() in digests


def test_a_simulated_case_is_written_inspected_and_replayed(tmp_path: Path) -> None:
    import operators.theatre

    case = Path(operators.theatre.__path__[0]) / "cases" / "eventful.yaml"
    target = tmp_path / "short.mcap"
    vigil("export", case, target, "--to", "3s", "--json")
    summary = documents(vigil("inspect", target, "--json"))[0]
    assert summary["simulated"] is True
    run = documents(vigil("replay", target, "--topology", "theatre", "--speed", "max", "--json"))
    assert run[-1]["summary"]["messages"] > 100  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("case", "planted"), [("eventful", 11), ("uneventful", 0)])
def test_the_demo_finds_what_was_planted_and_nothing_else(case: str, planted: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "demo", case, "--json"],
        capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = documents(done)[-1]["summary"]
    assert (summary["planted"], summary["found"], summary["missed"], summary["false"]) == (planted, planted, 0, 0)  # type: ignore[index]
