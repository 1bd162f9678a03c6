"""A run as a picture: for each section horizontal bars of the ratios to its baseline, on a logarithmic scale."""

from __future__ import annotations

from typing import Any

from .report import number, short
from .samples import Section

COLOURS = {"syncx": "#00897b", "peer": "#90a4ae", "floor": "#d7ccc8"}
BASELINE = "#455a64"


def _bars(axes: Any, section: Section) -> None:
    rows = []
    for name in section.samples:
        value, ratio = section.value(name), section.ratio(name)
        rows.append((ratio.median if ratio and ratio.median > 0 else None, name, value, ratio))
    # the best on top; who never came at the bottom
    known = sorted((r for r in rows if r[0] is not None), key=lambda r: r[0], reverse=section.more_is_better)
    rows = known + [r for r in rows if r[0] is None]
    medians = [r[0] for r in known] or [1.0]
    low, high = min([*medians, 1.0]), max([*medians, 1.0])
    left = low / 1.6
    right = high * max(3.0, (high / left) ** 0.45)  # room for the labels
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    for y, (median, name, value, ratio) in enumerate(rows):
        if median is None or value is None or ratio is None:
            label = section.notes.get(name) or (f"{number(value.median)} {section.unit}" if value else "-")
            axes.text(left * 1.05, y, label, va="center", fontsize=8, color="#b71c1c")
            continue
        colour = BASELINE if name == section.baseline else COLOURS[section.kinds[name]]
        axes.barh(y, median - left, left=left, height=0.7, color=colour)
        if ratio.q3 > ratio.q1:
            axes.plot([ratio.q1, ratio.q3], [y, y], color="black", linewidth=1, solid_capstyle="butt")
        text = f"{short(median)} x, {number(value.median)} {section.unit}"
        if (share := section.share(name)) is not None:
            text += f", share {share.median:.2f}"
        axes.text(max(median, ratio.q3) * 1.06, y, text, va="center", fontsize=8)
    axes.axvline(1.0, color=BASELINE, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [r[1] for r in rows], fontsize=8.5)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if section.kinds[row[1]] == "syncx":
            label.set_fontweight("bold")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    better = "more" if section.more_is_better else "less"
    axes.set_title(f"{section.title} (x {section.baseline}, {better} is better)", fontsize=10, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: "")
    axes.grid(axis="x", which="major", color="#eceff1", zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def write(path: str, about: dict[str, Any], sections: list[Section]) -> None:
    """Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "syncx", "svg.fonttype": "none"})  # same run, same file; text is text
    from matplotlib import pyplot

    heights = [len(s.samples) * 0.26 + 0.95 for s in sections]
    figure, all_axes = pyplot.subplots(
        len(sections), 1, figsize=(10, sum(heights) + 0.7), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, section in zip(all_axes[:, 0], sections, strict=True):
        _bars(axes, section)
    figure.suptitle(
        f"syncx {about['syncx']}, {about['python']}, {about['kernel']}, {about['cpus']} CPUs; medians, quartiles",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
