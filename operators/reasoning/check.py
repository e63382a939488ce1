"""``python -m operators.reasoning.check FILE...``: is this a preset, and what does it say in canonical form?"""

from __future__ import annotations

import sys

from operators.reasoning.preset import Preset, load
from operators.reasoning.syntax import print_expression
from pipeline.errors import VigilError


def describe(preset: Preset) -> str:
    """A preset for people: its identity and every rule as it is understood."""
    lines = [f"{preset.name} version {preset.version}, digest {preset.digest}"]
    for rule in preset.rules:
        lines += [f"  {rule.code} ({rule.priority}, {rule.kind})", f"    when   {print_expression(rule.when)}",
                  f"    clear  {print_expression(rule.clear)}"]  # fmt: skip
        if rule.unless is not None:
            lines.append(f"    unless {print_expression(rule.unless)}")
    for check in preset.checks:
        how = "an operator on `verdicts`" if check.confirm is None else print_expression(check.confirm)
        lines.append(f"  check of {', '.join(check.codes)} by {how}")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """0 where all are presets, 2 where one is not, as the command line of Vigil has it."""
    status = 0
    for name in names:
        try:
            print(describe(load(name)))
        except VigilError as error:
            print(error, file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
