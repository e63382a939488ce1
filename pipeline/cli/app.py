"""The commands of `vigil`, in the order in which help shows them."""

from __future__ import annotations

import typer

from pipeline.cli import alerts, box, recordings, run
from pipeline.cli import score as scoring

app = typer.Typer(
    name="vigil", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Streams of the operating room in, defended alerts out. Vigil informs; it is never the only alarm.",
    epilog="Exit codes: 0 done, 1 not as it should be, 2 a fault that you can mend, 130 interrupted.",
)  # fmt: skip

PANELS = {
    "Run": (run.demo, run.launch, run.replay, run.record),
    "Alerts": (alerts.subscribe, alerts.acknowledge, alerts.pause, alerts.resume, alerts.verify, scoring.score),
    "Recordings": (recordings.inspect, recordings.export, recordings.simulate),
    "This machine": (box.top, box.doctor, box.bench, box.schema),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(box.broker_app, name="broker", rich_help_panel="This machine")
