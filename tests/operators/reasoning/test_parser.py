"""The grammar: what is written comes back in one canonical way, and what is no expression says where and why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.reasoning.parser import KEYWORDS, MAXIMUM_DEPTH, RuleSyntaxError, parse
from operators.reasoning.syntax import Node, print_expression
from tests.operators.reasoning.test_reference import NUMERIC, STATES, expressions


def canonical(text: str) -> str:
    return print_expression(parse(text, NUMERIC, STATES))


def fault(text: str) -> RuleSyntaxError:
    with pytest.raises(RuleSyntaxError) as caught:
        parse(text, NUMERIC, STATES)
    return caught.value


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_what_is_printed_parses_to_the_same(node: Node) -> None:
    text = print_expression(node)
    assert parse(text, NUMERIC, STATES) == node
    assert print_expression(parse(f" ( {text} ) ".replace(" ", "\n "), NUMERIC, STATES)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("falls(map, by 10, within 60s) and bleeding for 5s", "falls(map, by 10, within 1min) and bleeding for 5s"),
        ("not bleeding for 30 s", "not bleeding for 30s"),
        ("not (bleeding for 30s)", "not (bleeding for 30s)"),
        ("not seen count within 10min", "not seen count within 10min"),
        ("not (seen (count) within 10min)", "not seen count within 10min"),
        ("map < 65 until 70 for 1min", "map < 65 until 70 for 1min"),
        ("bleeding or map < 65 and hr > 120", "bleeding or map < 65 and hr > 120"),
        ("(bleeding or map < 65) and hr > 120", "(bleeding or map < 65) and hr > 120"),
        ("bleeding and (smoke and count)", "bleeding and smoke and count"),
        ("hr / (map - 10) > 0.90", "hr / (map - 10) > 0.9"),
        ("hr - (map - 10) > 2 * -map", "hr - (map - 10) > 2 * -map"),
        ("(hr - map) - 10 > 0", "hr - map - 10 > 0"),
        ("2 of (map < 65, hr > 120, smoke)", "2 of (map < 65, hr > 120, smoke)"),
        ("bleeding then map < 65 within 90s", "bleeding then map < 65 within 90s"),
        ("rises(map, by 20 %, within 1.5s)", "rises(map, by 20%, within 1500ms)"),
        ("silent(map, 3600s)", "silent(map, 1h)"),
        ("min(map, 5 min) < 50", "min(map, 5min) < 50"),
    ],
)
def test_one_meaning_one_text(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("mapp < 65", 0, "no signal is called 'mapp'"),
        ("map = 65", 4, "compared with <, <=, > or >="),
        ("map < 65 unti 70", 9, "'unti' stands here"),
        ("map < 65 until 60", 15, "must lie above"),
        ("map < 65 for 60", 13, "a duration such as 60s"),
        ("map < 65s", 6, "a duration stands where a value is needed"),
        ("map < 65 for 2d", 13, "neither a number nor a duration"),
        ("map < 65 for 9h", 13, "not between"),
        ("hr and map < 3", 0, "a number stands where true or false"),
        ("(map < 3) + 2 < 5", 1, "true or false stands where a number"),
        ("mean(bleeding, 5s) < 1", 5, "has no values"),
        ("mean(map 5s) < 1", 9, "expected `,`"),
        ("avg(map, 5s) < 1", 0, "no function 'avg'"),
        ("4 of (smoke, count)", 0, "cannot be"),
        ("smoke for 5s for 6s", 13, "one `for` only"),
        ("1 < map < 5", 8, "one comparison only"),
        ("falls(map, by 0, within 5s)", 14, "more than nothing"),
        ("smoke && count", 6, "not part of the language"),
        ("smoke then count", 16, "expected `within`"),
        ("seen smoke", 10, "expected `within`"),
        ("", 0, "the text ends"),
        ("(smoke", 6, "expected `)`"),
    ],
)
def test_errors_name_the_place_and_what_was_expected(text: str, offset: int, words: str) -> None:
    found = fault(text)
    assert words in found.message
    assert found.offset == offset


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("bleding", "bleeding"),
        ("maq < 3", "map"),
        ("smoke unti 5s", "until"),
        ("raises(map, by 1, within 5s)", "rises"),
    ],
)
def test_errors_give_the_nearest_spelling(text: str, mend: str) -> None:
    assert mend in fault(text).mend


def test_no_text_recurses_without_end() -> None:
    for text in ("(" * 2000 + "smoke" + ")" * 1900, "not " * 900 + "smoke", "-" * 3000 + "map < 3",
                 "1 of (" * 600, "seen " * 700, "map < " + "1 + " * 900 + "1"):  # fmt: skip
        found = fault(text)
        assert f"{MAXIMUM_DEPTH}" in found.message, found.message
    assert "characters" in fault("smoke and " * 500).message


WORDS = st.sampled_from(
    (*KEYWORDS, *NUMERIC, *STATES, "falls", "mean", "min", "silent", "(", ")", ",", "<", ">=", "+", "-", "*", "/", "%",
     "5s", "2min", "65", "0.5", "=", "\n", "&", "ü")
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map(" ".join)))
def test_any_text_is_an_expression_or_a_clear_error(text: str) -> None:
    try:
        node = parse(text, NUMERIC, STATES)
    except RuleSyntaxError as found:
        assert found.message
        assert 0 <= found.offset <= len(text)
    else:
        assert parse(print_expression(node), NUMERIC, STATES) == node
