"""The sheet a map is drawn on: where header, panels and colour bars go, in inches.

A sheet has up to four columns and two rows of panels of equal size, a header of three lines and one row of
colour bars. Its size follows from the number of columns and the shape of the ground alone, so that all
cycles of a loop have the same number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from cycler_da.plots import style
from cycler_da.plots.fields import CycleFacts
from cycler_da.plots.scales import ColourScale

if TYPE_CHECKING:
    from matplotlib.text import Text

_LEFT, _RIGHT, _GAP = 0.56, 0.14, 0.13
_HEADER, _TITLE = 0.76, 0.25
_BAR_LABEL, _BAR_TICKS, _BAR, _BAR_TOP = 0.25, 0.20, 0.13, 0.22
_WIDEST_PANEL = 2.36
_LONGEST_LINE = 76  # characters; the legend of observations stands to the right


@dataclass(frozen=True)
class Sheet:
    """Geometry of a figure: `n_columns` by two panels over ground of a given height over width."""

    n_columns: int
    aspect: float
    tick_room: float  # inches between the lowest panels and the colour bars
    has_top_labels: bool = False  # room above the colour bars for a second row of labels

    @property
    def panel_width(self) -> float:
        """Width of a panel in inches."""
        room = style.WIDTH_INCHES - _LEFT - _RIGHT - _GAP * (self.n_columns - 1)
        return min(room / self.n_columns, _WIDEST_PANEL)

    @property
    def panel_height(self) -> float:
        """Height of a panel in inches."""
        return self.panel_width * self.aspect

    @property
    def height(self) -> float:
        """Height of the figure in inches, a whole number of pixels."""
        bars = _BAR_LABEL + _BAR_TICKS + _BAR + (_BAR_TOP if self.has_top_labels else 0.04)
        height = _HEADER + 2 * (_TITLE + self.panel_height) + self.tick_room + bars
        return round(height * style.DPI) / style.DPI

    def figure(self) -> Figure:
        """An empty figure of this size."""
        return Figure(figsize=(style.WIDTH_INCHES, self.height), dpi=style.DPI)

    def panel(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Rectangle of a panel in figure fractions; row 0 is on top."""
        x = _LEFT + column * (self.panel_width + _GAP)
        y = self.height - _HEADER - (row + 1) * (_TITLE + self.panel_height)
        return self._fractions(x, y, self.panel_width, self.panel_height)

    def bars(self, weights: list[float]) -> list[tuple[float, float, float, float]]:
        """Rectangles of colour bars side by side, their widths in proportion to `weights`."""
        gap = 0.32
        room = style.WIDTH_INCHES - 2 * 0.30 - gap * (len(weights) - 1)
        rectangles, x = [], 0.30
        for weight in weights:
            width = room * weight / sum(weights)
            rectangles.append(self._fractions(x, _BAR_LABEL + _BAR_TICKS, width, _BAR))
            x += width + gap
        return rectangles

    def _fractions(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        across, up = style.WIDTH_INCHES, self.height
        return x / across, y / up, width / across, height / up


def draw_header(figure: Figure, title: str, facts: CycleFacts, *, warning: str = "") -> None:
    """Write what, when and by whom, that it is experimental, and what else a reader must know."""
    height = float(figure.get_size_inches()[1])

    def line(text: str, inches_below: float, **look: object) -> Text:
        return figure.text(0.14 / style.WIDTH_INCHES, 1 - inches_below / height, text, va="center", **look)

    line(title, 0.19, fontsize=11, fontweight="bold")
    line(style.title_times(facts.init, facts.valid), 0.42, fontsize=9)
    line(provenance_text(facts), 0.63, color=style.MUTED)
    right = 1 - 0.14 / style.WIDTH_INCHES
    badge = {"boxstyle": "round,pad=0.35", "facecolor": "white", "linewidth": 0.8}
    colour = style.ALERT if facts.degraded else style.MUTED
    words = ("EXPERIMENTAL", "DEGRADED" if facts.degraded else "", warning.upper())
    figure.text(
        right - 0.01,
        1 - 0.21 / height,
        " · ".join(word for word in words if word),
        ha="right",
        va="center",
        fontweight="bold",
        color=colour,
        bbox={**badge, "edgecolor": colour},
    )


def provenance_text(facts: CycleFacts) -> str:
    """Members, scheme, model and chain in one line."""
    parts = [
        f"{facts.n_members} members" if facts.n_members else "",
        f"scheme {facts.scheme}" if facts.scheme else "",
        f"model {facts.model_digest[:8]}" if facts.model_digest else "",
        " / ".join(part for part in (facts.experiment, "" if facts.chain == facts.scheme else facts.chain) if part),
    ]
    text = " | ".join(part for part in parts if part)
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 1]}…"


def draw_bar(figure: Figure, rectangle: tuple[float, float, float, float], scale: ColourScale) -> Colorbar:
    """Draw a horizontal colour bar."""
    mappable = ScalarMappable(norm=scale.norm, cmap=scale.cmap)
    axes = figure.add_axes(rectangle)
    bar = figure.colorbar(
        mappable, cax=axes, orientation="horizontal", extend=scale.extend, extendfrac=0.05, spacing="uniform"
    )
    bar.outline.set_linewidth(0.5)
    bar.minorticks_off()
    bar.ax.tick_params(length=2, pad=1.5)
    bar.set_label(scale.label, labelpad=1.5)
    label_bar(bar, scale)
    if scale.top_labels:
        for index, text in enumerate(scale.top_labels):
            at = index / (len(scale.top_labels) - 1)
            axes.text(at, 1.2, text, transform=axes.transAxes, ha="center", va="bottom", color=style.MUTED)
    return bar


def label_bar(bar: Colorbar, scale: ColourScale) -> None:
    """Write the tick labels of a bar; a change of colours takes them away."""
    bar.set_ticks(list(scale.ticks), labels=list(scale.tick_labels))
