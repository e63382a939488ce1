"""Each check finds what is there, and a check that breaks is a finding."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from pipeline import doctor


def states(data: Path, port: int = 0, kafka: str = "") -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(data, port, kafka)}


def test_a_machine_that_runs_these_tests_is_fit_and_is_not_named(tmp_path: Path) -> None:
    found = states(tmp_path / "data")
    assert [check for check in found.values() if check.state == "fail"] == []
    assert found["decoders"].state == "ok"
    assert list((tmp_path / "data").iterdir()) == []
    text = " ".join(f"{check.found} {check.mend}" for check in found.values())
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text or getpass.getuser() == "root"


def test_what_is_wrong_comes_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = states(tmp_path / "file" / "data", taken.getsockname()[1], "127.0.0.1:1")
    assert found["data folder"].state == "fail"
    assert "--data" in found["data folder"].mend
    assert found["health port"].state == "warn"
    assert found["broker"].state == "fail"
    assert "journal" in found["broker"].mend


def test_programs_that_are_missing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = states(tmp_path)
    assert {name: found[name].state for name in ("gpu", "ffmpeg", "gst-launch-1.0", "local broker", "clock")} == (
        dict.fromkeys(("gpu", "ffmpeg", "gst-launch-1.0", "local broker", "clock"), "warn")
    )
    assert all(found[name].mend for name in ("gpu", "ffmpeg", "clock"))


def test_a_check_that_breaks_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory", lambda: 1 / 0)
    found = states(tmp_path)
    assert found["memory"].state == "fail"
    assert "ZeroDivisionError" in found["memory"].found
    assert found["local broker"].found
