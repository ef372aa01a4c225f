"""Writes agrl.json, the Grafana dashboard of the folder ``rows``: ``python deploy/grafana/dashboard.py``."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh
from panels import Panel
from rows import ROWS

OUT = Path(__file__).with_name("agrl.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ACROSS, HEIGHT = 24, 8  # Grafana's columns; rows of a panel
PER_LINE = 3


def build() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("AGRL")
        .uid("agrl")
        .tags(["agrl", "ray"])
        .description("A training run of AGRL: docs/monitoring.md says what a bad curve tells you.")
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("run")
            .label("Run")
            .query("label_values(ray_agrl_actor_busy_share, run)")
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    for row in ROWS:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(ACROSS // PER_LINE)
        .height(HEIGHT)
        .min(0.0 if panel.unit != "none" else None)
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(30.0 if panel.stacked else 0.0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.stacked:
        built = built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for number, curve in enumerate(panel.curves):
        query = prometheus.Dataquery().expr(curve.query).legend_format(curve.legend).range()
        built = built.with_target(query.ref_id(chr(ord("A") + number)).datasource(SOURCE))
    return built


if __name__ == "__main__":
    OUT.write_text(build(), encoding="utf-8")
