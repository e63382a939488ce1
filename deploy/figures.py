"""Writes the README's tables of figures from the benches' own documents, so that no figure is typed by hand.

    .venv/bin/python deploy/figures.py                 # README from the documents that are here
    .venv/bin/python deploy/figures.py engine alerts   # measure these first (an idle machine, please)

A document is what `vigil bench NAME --json` printed; it lies in `deploy/figures/NAME.json`. In the README a line
`<!-- figures NAME -->` begins a table and `<!-- end -->` ends it; what stands between is replaced. With
`<!-- figures NAME goals -->` only the rows that have a goal are shown.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "figures"
BLOCK = re.compile(r"(<!-- figures (\w+)( goals)? -->\n).*?(<!-- end -->)", re.DOTALL)


def measure(name: str) -> None:
    """Run one bench and keep its document. A goal that is not met is a figure like any other."""
    command = [str(ROOT / ".venv" / "bin" / "vigil"), "bench", name, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    document = json.loads(done.stdout.splitlines()[-1])
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def figure(value: float | None, unit: str = "") -> str:
    """A value for people: four digits at most."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"
    return f"{text} {unit}".strip()


def row(found: dict[str, Any]) -> str:
    """One row of a table in Markdown."""
    value = figure(found["value"], found["unit"])
    if found.get("interval"):
        value += " ({} to {})".format(*(figure(bound) for bound in found["interval"]))
    beside = f"{found['baseline_name']}: {figure(found['baseline'])}" if found["baseline_name"] else ""
    verdict = {True: "met", False: "**not met**", None: ""}[found["met"]]
    goal = f"{found['goal']}: {verdict}" if found["goal"] else ""
    return f"| {found['name']} | {value} | {beside} | {figure(found['ratio'])} | {goal} |"


def table(document: dict[str, Any], goals: bool = False) -> str:
    """A document as a table in Markdown, with the machine and the command it came from; only goals where asked."""
    command = re.sub(r"\S*/vigil\b", "vigil", document["command"])
    lines = [f"`{command}` on {document['machine']}:", ""]
    lines += ["| what | value | beside | ratio | goal |", "|---|---|---|---|---|"]
    shown = [found for found in document["rows"] if found["goal"] or not goals]
    lines += [row(found) for found in shown]
    if rest := len(document["rows"]) - len(shown):
        lines += [
            "",
            f"{rest} further rows, and the data and split of each, are in `deploy/figures/{document['bench']}.json`.",
        ]
    return "\n".join(lines) + "\n"


def written(readme: str) -> str:
    """The README with every table made anew. A table without a document says so."""

    def fill(block: re.Match[str]) -> str:
        path = FOLDER / f"{block[2]}.json"
        text = (
            table(json.loads(path.read_text()), bool(block[3]))
            if path.exists()
            else f"`vigil bench {block[2]}`: not run yet.\n"
        )
        return block[1] + text + block[4]

    return BLOCK.sub(fill, readme)


def main(names: list[str]) -> int:
    for name in names:
        print(f"measuring {name}", flush=True)
        measure(name)
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
