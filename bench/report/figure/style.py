"""How all figures look: one colour and marker for a regularizer, whatever the experiment.

The colours are Okabe and Ito's (2008), the light ones darkened and three added, so that each shows on white and on
near-black; their worst pairs under simulated colour blindness differ in marker. Filled markers stand for the first
optimizer, open ones for the others. Text and axes are in INK, backgrounds transparent: a page that replaces INK by
`currentColor` has its figures in the colour of its text. SVG files name their font instead of holding outlines, so
labels get more room than they need here.
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.console.escape import escape
from bench.console.wrap import wrap

INK = "#1b1b1f"
OF_ARM = "arm "  # begins the id of what is drawn for arms; the others are those of the arms

# The markers are those that can be open. A method that is not here takes one of these colours, by its name, and one
# of the other markers.
_LOOKS: dict[str, tuple[str, Any]] = {
    "none": (INK, "o"),
    "label_smoothing": ("#009e73", "s"),
    "mixup": ("#cf4f00", "^"),
    "cutmix": ("#cf9200", "v"),
    "mixup_cutmix": ("#8f6a3a", "D"),
    "sam": ("#0072b2", "P"),
    "look_sam": ("#8b5cd6", "X"),
    "asam": ("#45a6de", "*"),
    "weight_decay": ("#707480", "<"),
    "dropout": ("#d36ba6", ">"),
    # These share colours with those above.
    "cutout": ("#d36ba6", "h"),
    "random_erasing": ("#cf9200", (3, 1, 0)),
    "focal": ("#009e73", "d"),
    "confidence_penalty": ("#45a6de", "p"),
    "ema": ("#8b5cd6", (4, 1, 0)),
    "swa": ("#cf4f00", (6, 1, 0)),
    "stochastic_depth": ("#707480", (8, 1, 0)),
}
_OTHER_MARKERS = ("h", "d", "p", (4, 1, 0), (6, 1, 0))

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # names may hold dollar signs
    "svg.fonttype": "none",
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.1,
}


@dataclass(frozen=True)
class Look:
    """How a regularizer's points are drawn."""

    colour: str
    marker: Any
    filled: bool = True

    def style(self, size: float = 6.5) -> dict[str, Any]:
        """Keywords for a line with markers of that size, in points."""
        face = self.colour if self.filled else "none"
        bigger = {
            "*": 1.5,
            "d": 1.2,
            "P": 1.25,
            "X": 1.2,
            (3, 1, 0): 1.4,
            (4, 1, 0): 1.4,
            (6, 1, 0): 1.3,
            (8, 1, 0): 1.3,
        }.get(self.marker, 1)
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": size * bigger,
            "markerfacecolor": face,
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.2,
        }


def look_of(regularizer: str, filled: bool = True) -> Look:
    """The look of a regularizer; a stack has the colour of its first part and the marker of its last."""
    parts = regularizer.split("+")
    return Look(_look_of_part(parts[0])[0], _look_of_part(parts[-1])[1], filled)


def _look_of_part(name: str) -> tuple[str, Any]:
    if name in _LOOKS:
        return _LOOKS[name]
    colours = [*dict.fromkeys(colour for colour, _ in _LOOKS.values() if colour != INK)]
    by_colour, by_marker = divmod(zlib.crc32(name.encode()), len(_OTHER_MARKERS))
    return colours[by_colour % len(colours)], _OTHER_MARKERS[by_marker]


@contextmanager
def house_style(salt: str = "") -> Iterator[None]:
    """A context in which figures are made and rendered, whatever the user's matplotlibrc says.

    Args:
        salt: for the ids in an SVG file; figures that differ in it can stand in one page.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in a script that the font lacks
        mpl.rcdefaults()
        mpl.rcParams.update(_RC | {"svg.hashsalt": f"regbench {salt}"})
        yield


def make_figure(width: float, height: float, title: str, note: str, legend: float = 0) -> Figure:
    """A figure with its title above and a note in small print below, both at the left.

    Args:
        width: inches.
        height: inches.
        title: wrapped where it is long.
        note: wrapped where it is long.
        legend: inches at the right where the title must not stand.
    """
    figure = Figure((width, height), layout="constrained")
    figure.suptitle("\n".join(wrap(title, int(8.5 * (width - legend)), 4)), x=0.01, ha="left", weight="bold")
    figure.supxlabel("\n".join(wrap(note, int(13.5 * width))), x=0.01, ha="left", fontsize=8)
    return figure


def mark_arms(artists: Iterable[Artist], *arm_ids: str) -> None:
    """Has an SVG file say of which arms these are, by which a page picks them out."""
    for artist in artists:
        artist.set_gid(OF_ARM + " ".join(map(escape, arm_ids)))


def make_legend(
    beside: Figure | Axes, handles: Sequence[Line2D], labels: Sequence[str], arm_ids: Sequence[Sequence[str]]
) -> None:
    """A legend at the right of all axes, or of these, at the top; each entry is of some arms."""
    # Matplotlib takes a label that begins with an underscore for one of its own, and leaves it out.
    place: dict[str, Any] = {"loc": "outside right upper"}
    if isinstance(beside, Axes):
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "handlelength": 4}
    legend = beside.legend(handles, ["."] * len(labels), labelspacing=0.7, **place)
    for handle, text, label, of in zip(legend.legend_handles, legend.get_texts(), labels, arm_ids, strict=True):
        text.set_text(label)
        mark_arms(filter(None, (handle, text)), *of)


def legend_height(labels: Sequence[str]) -> float:
    """Inches that a legend takes."""
    return 0.3 + sum(0.1 + 0.145 * (label.count("\n") + 1) for label in labels)


def show_grid(axes: Axes, axis: str = "both") -> None:
    """Faint lines behind everything."""
    axes.grid(True, axis=axis)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
