"""Tables and heat maps of products of positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lengen_fast.reporting import write_figure
from lengen_fast.theory.product_functions import HEIGHT, Head, Learned, Parts
from lengen_fast.theory.targets import condition

PART_NAMES = ("local", "periodic", "remainder")
SMALL = 0.1  # of the largest part: the period of a smaller periodic part is not named


def learned_rows(results: Sequence[Learned]) -> list[list[str]]:
    """Header and lines: losses by window beside the published ones, and the size of each part."""
    windows = results[0].protocol.test_windows
    table = [
        ["target", "width", *(f"loss {w}" for w in windows), *(f"published {w}" for w in windows), *_part_titles()]
    ]
    for result in results:
        published = ["-"] * 3 if result.published is None else [_short(loss) for loss in result.published]
        losses = [_short(loss) for loss in result.losses]
        table.append([result.target, str(result.protocol.width), *losses, *published, *_part_cells(result.parts)])
    return table


def _short(loss: float) -> str:
    """Three figures, without an exponent where none is needed."""
    return f"{loss:.0f}" if 100 <= loss < 1e5 else f"{loss:.2g}"


def head_rows(heads: Sequence[Head]) -> list[list[str]]:
    """Header and lines: the size of each part of each head's products."""
    table = [["layer", "head", *_part_titles()]]
    return table + [[str(head.layer), str(head.head), *_part_cells(head.parts)] for head in heads]


def _part_titles() -> list[str]:
    return [*PART_NAMES, "period"]


def _part_cells(parts: Parts) -> list[str]:
    return [*(f"{size:.3g}" for size in parts.sizes().values()), str(parts.period)]


def save_learned(results: Sequence[Learned], path: Path) -> None:
    """A row of heat maps for each target: the target, then for each width products, local, periodic and remainder."""
    targets = list(dict.fromkeys(result.target for result in results))
    widths = list(dict.fromkeys(result.protocol.width for result in results))
    found = {(result.target, result.protocol.width): result for result in results}
    figure, panels = _panels(len(targets), 1 + 4 * len(widths))
    for row, target in zip(panels, targets, strict=True):
        first = found[target, widths[0]]
        positions = first.protocol.positions
        _map(row[0], condition(target, positions).double() * HEIGHT, HEIGHT, first.protocol.window)
        row[0].set_ylabel(target, fontsize=8)
        for index, width in enumerate(widths):
            result = found[target, width]
            _draw_split(row[1 + 4 * index :], result.products, result.parts, HEIGHT, result.protocol.window)
            _note(row[1 + 4 * index], _loss_note(result))
    titles = [[f"$\\bf{{width\\ {width}}}$\nlearned", *(f"\n{name}" for name in PART_NAMES)] for width in widths]
    _titles(panels[0], ["\ntarget", *(title for group in titles for title in group)])
    window = found[targets[0], widths[0]].protocol.window
    figure.suptitle(f"products $p_i^T W p_j$ trained towards a target at distances below {window}", fontsize=11)
    _finish(figure, panels, "training sees the pairs above the dashed line; error: mean square in windows of that size")
    write_figure(figure, path)


def save_heads(heads: Sequence[Head], window: int | None, path: Path) -> None:
    """A row of heat maps for each head: products, local, periodic and remainder; one colour scale for all."""
    height = max(float(head.products.tril().abs().max()) for head in heads) or 1.0
    figure, panels = _panels(len(heads), 4)
    for row, head in zip(panels, heads, strict=True):
        _draw_split(row, head.products, head.parts, height, window)
        row[0].set_ylabel(f"layer {head.layer}, head {head.head}", fontsize=8)
    _titles(panels[0], ["$p_i K^T Q p_j$", *PART_NAMES])
    _finish(figure, panels, "the dashed line is the greatest distance in a training string" if window else "")
    write_figure(figure, path)


def _loss_note(result: Learned) -> str:
    lines = [f"{w}: {_short(loss)}" for w, loss in zip(result.protocol.test_windows, result.losses, strict=True)]
    return "\n".join(["error", *lines])


def _note(axes, text: str) -> None:
    """In the empty corner."""
    axes.text(0.97, 0.95, text, ha="right", va="top", fontsize=7, linespacing=1.25, transform=axes.transAxes)


def _panels(rows: int, columns: int):
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(1.75 * columns + 0.7, 1.75 * rows + 0.8), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw_split(row, products: Tensor, parts: Parts, height: float, window: int | None) -> None:
    maps = (products, parts.local, parts.periodic, parts.remainder)
    for axes, values in zip(row, maps, strict=False):
        _map(axes, values, height, window)
    sizes = parts.sizes()
    if sizes["periodic"] >= SMALL * max(sizes.values()):
        _note(row[2], "constant" if parts.period == 1 else f"period {parts.period}")


def _map(axes, values: Tensor, height: float, window: int | None) -> None:
    n = len(values)
    shown = torch.where(torch.ones(n, n).tril() > 0, values.double(), torch.nan)
    axes.imshow(shown.numpy(), cmap="RdBu_r", vmin=-height, vmax=height)
    if window is not None and window < n:
        ends = [-0.5, n - window - 0.5], [window - 0.5, n - 0.5]
        axes.plot(*ends, color="white", linewidth=1.6)
        axes.plot(*ends, color="#35424e", linewidth=0.8, linestyle="--")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(False)


def _titles(row, titles: Sequence[str]) -> None:
    for axes, title in zip(row, titles, strict=True):
        axes.set_title(title, fontsize=9)


def _finish(figure, panels, note: str) -> None:
    bar = figure.colorbar(panels[0][0].images[0], ax=panels[:, -1].tolist(), shrink=0.9, extend="both")
    bar.set_label("logits", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.supxlabel(f"query i down, key j <= i across{'; ' + note if note else ''}", fontsize=8)
