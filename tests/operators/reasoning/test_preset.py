"""Presets: checked whole, with the place of every fault; hashed by content."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.reasoning.document import PresetError
from operators.reasoning.parser import parse
from operators.reasoning.preset import FOLDER, load, loads
from operators.reasoning.rules import Rules

GOOD = """reasoning: 1
name: good
version: 2
signals:
  map: {numerics: ["*/ABP_MEAN"], unit: "mm[Hg]"}
  hr: {numerics: "*/HR", unit: /min}
  bleeding: {conditions: bleeding}
rules:
  - code: it
    priority: high
    when: >
      falls(map, by 10, within 60s)
      and bleeding for 5s
    text: "MAP {map:.0f} mmHg"
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (changed("and bleeding", "and bleding"), "13:11", "did you mean 'bleeding'"),
        (changed("when: >", "when: |").replace("and bleeding", "und bleeding"), "13:7", "'und' stands here"),
        (changed("and bleeding", "and map < hr"), "13:17", "/min stands beside mm[Hg]"),
        (changed("{map:.0f}", "{mapp}"), "14:16", "no signal is called 'mapp'"),
        (changed("{map:.0f}", "{bleeding}"), "14:16", "has no value"),
        (changed("{map:.0f}", "{map.__class__}"), "14:16", "write {signal}"),
        (changed("priority: high", "prority: high"), "10:5", "did you mean 'priority'"),
        (changed("priority: high", "priority: hihg"), "10:15", "did you mean 'high'"),
        (changed("    priority: high\n", ""), "9:5", "needs 'priority'"),
        (changed("numerics: \"*/HR\"", "numeric: \"*/HR\""), "6:8", "did you mean 'numerics'"),
        (changed("{conditions: bleeding}", "{conditions: bleeding, unit: x}"), "7:42", "conditions have no 'unit'"),
        (changed("  hr:", "  falls:"), "6:3", "a word of the language"),
        (changed("version: 2", "version: two"), "3:10", "must be a number"),
        (changed("reasoning: 1", "reasoning: 9"), "1:12", "version 1 of the language"),
        (changed("code: it", "code: It Is"), "9:11", "is no code"),
        (changed("rules:", "rules:\n  - {code: it, priority: low, when: bleeding, text: x}"), "10:5", "twice"),
        (changed("name: good", "name: good\nname: bad"), "3:1", "given twice"),
        (changed("name: good", "name: good\ninclude: nothing"), "3:10", "no preset 'nothing'"),
        (changed("    text:", "    because: x\n    text:"), "14:14", "reason of an `unless`"),
        ("a: [1", "1:6", ""), ("", "1:1", "is empty"), ("[1, 2]", "1:1", "must be a mapping"),
        ("&a [*a]", "", "unfolds"), ("!!python/object:os.system {}", "1:1", ""), ("a: " + "[" * 3000, "", ""),
    ],
)  # fmt: skip
def test_errors_name_line_and_column(text: str, place: str, words: str) -> None:
    with pytest.raises(PresetError) as caught:
        loads(text, "ward.yaml")
    assert caught.value.where.startswith(f"ward.yaml:{place}" if place else "ward.yaml")
    assert words in str(caught.value)


def test_errors_within_quotes_and_folds_point_at_the_word() -> None:
    quoted = changed(
        """when: >
      falls(map, by 10, within 60s)
      and bleeding for 5s""",
        '''when: "falls(map, by 10, within 60s)
      and   bleding  for 5s"''',
    )
    with pytest.raises(PresetError, match=r"w:12:13: .*'bleding'"):
        loads(quoted, "w")


def test_the_digest_is_of_the_content_not_of_the_layout() -> None:
    first = loads(GOOD)
    same = loads("# a comment\n" + changed("60s", "1 min").replace("and bleeding", "and (bleeding)"))
    assert same.digest == first.digest
    for old, new in (("by 10", "by 11"), ("version: 2", "version: 3"), ("high", "low"), ("ABP_MEAN", "ART")):
        assert loads(changed(old, new)).digest != first.digest


def test_what_hashes_the_options_hashes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    before = Rules(preset=str(path)).config.model_dump_json()
    path.write_text(changed("by 10", "by 12"))
    after = Rules(preset=str(path))
    assert after.config.model_dump_json() != before
    assert (after.rule().name, after.rule().version) == ("reasoning.good", "2")
    assert after.rule().digest == load(str(path)).digest


def test_an_unknown_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(PresetError, match="did you mean 'theatre'"):
        Rules(preset="theater")
    with pytest.raises(PresetError, match="cannot be read"):
        Rules(preset="/nowhere/at/all.yaml")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_presets_load_and_say_where_their_figures_come_from(path: Path) -> None:
    preset = load(path.stem)
    assert preset.name == path.stem
    assert len(preset.rules) >= 5
    assert all(rule.why for rule in preset.rules)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.integers(0, len(GOOD)), st.integers(0, 12))
def test_any_file_is_a_preset_or_a_clear_error(noise: str, at: int, cut: int) -> None:
    for text in (noise, GOOD[:at] + noise + GOOD[at + cut :]):
        try:
            loads(text, "f")
        except PresetError as error:
            assert str(error)


def test_the_manual_s_own_example_is_a_preset_and_its_table_is_of_the_language() -> None:
    manual = (FOLDER.parent / "LANGUAGE.md").read_text()
    assert len(manual.splitlines()) < 110, "one page"
    example = manual.split("```yaml\n")[1].split("```")[0]
    preset = loads(example, "LANGUAGE.md")
    assert [rule.code for rule in preset.rules] == ["bleeding_with_falling_pressure"]
    assert len(preset.checks) == 2
    rows = re.findall(r"^\| `([^`]+)` \|", manual, re.MULTILINE)
    assert len(rows) > 6
    for words in rows:
        parse(words, ("map", "co2"), ("a", "b", "c", "x"))


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "operators.reasoning.check", *arguments], capture_output=True,
                          text=True, check=False, cwd=Path(__file__).parents[3])  # fmt: skip


def test_the_checker_tells_a_good_file_from_a_bad_one(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(changed("and bleeding", "and bleding"))
    done = check(str(good))
    assert done.returncode == 0, done.stderr
    assert load(str(good)).digest in done.stdout
    assert "falls(map, by 10, within 1min) and bleeding for 5s" in done.stdout
    done = check(str(bad))
    assert done.returncode == 2
    assert f"{bad}:13:11: when: no signal is called 'bleding' (did you mean 'bleeding'?)" in done.stderr
