"""The figures of benchmarks/fidelity.py, and what they show in words."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Runs = dict[str, list[dict[str, Any]]]
"""The runs of each variant of RL, one per seed."""

BASE = "mirror descent"


def curve(runs: Sequence[dict[str, Any]], x: str, y: str) -> tuple[list[float], list[float], list[float]]:
    """Mean x, mean y and standard deviation of y over seeds, at each point where the runs were evaluated."""
    rows = list(zip(*([(p[x], p[y]) for p in run["points"]] for run in runs), strict=True))
    means = [[statistics.fmean(values) for values in zip(*row, strict=True)] for row in rows]
    return [m[0] for m in means], [m[1] for m in means], [statistics.stdev(v for _, v in row) for row in rows]


def final(runs: Sequence[dict[str, Any]], y: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds at the end."""
    values = [run["points"][-1][y] for run in runs]
    return statistics.fmean(values), statistics.stdev(values)


def reached(xs: Sequence[float], ys: Sequence[float], level: float) -> float | None:
    """Where a curve first reaches a level, on a straight line between its points; None if it never does."""
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), zip(xs[1:], ys[1:], strict=False), strict=False):
        if y0 < level <= y1:
            return x0 + (x1 - x0) * (level - y0) / (y1 - y0)
    return None


def at(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """A curve's height at x, on a straight line between its points."""
    for x0, y0, x1, y1 in zip(xs, ys, xs[1:], ys[1:], strict=False):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ys[-1]


def percent(mean: float, deviation: float) -> str:
    """A share and its spread."""
    return f"{mean:.1%} ± {deviation:.1%}"


def against(runs: Runs, other: str) -> tuple[str, dict[str, Any]]:
    """Final accuracies of the base and another variant, and the samples that each needed to the best level of both."""
    curves = [curve(runs[name], "samples", "accuracy") for name in (BASE, other)]
    first, second = final(runs[BASE], "accuracy"), final(runs[other], "accuracy")
    level = min(max(accuracies) for _, accuracies, _ in curves)
    samples = [reached(xs, ys, level) for xs, ys, _ in curves]
    gap, deviation = first[0] - second[0], max(first[1], second[1])
    verdict = "within the spread" if abs(gap) <= deviation else "ahead" if gap > 0 else "behind"
    figures = {"accuracy": [first[0], second[0]], "deviation": [first[1], second[1]], "level": level}
    figures |= {"verdict": verdict}
    figures |= {"samples_to_level": samples}
    text = f"{percent(*first)} against {percent(*second)} for {other}"
    if all(samples):
        text += f"; {level:.1%} is reached after {samples[0]:.0f} and {samples[1]:.0f} samples"
    return f"{text} ({verdict})", figures


def findings(runs: Runs, contexts: Sequence[int]) -> dict[str, Any]:
    """What each figure shows, in a sentence and in numbers."""
    base = runs[BASE]
    sentences: dict[str, str] = {}
    figures: dict[str, dict[str, Any]] = {}

    def change(y: str) -> tuple[float, float]:
        return statistics.fmean(r["points"][0][y] for r in base), final(base, y)[0]

    accuracy, length = change("accuracy"), change("length")
    together = accuracy[1] > accuracy[0] and length[1] > length[0]
    sentences["accuracy and length over iterations (Fig. 5)"] = (
        f"accuracy goes from {accuracy[0]:.1%} to {accuracy[1]:.1%} and length from {length[0]:.1f} to {length[1]:.1f} "
        f"tokens; the report's joint growth is {'seen' if together else 'NOT seen'} here"
    )
    figures["fig5"] = {"accuracy": accuracy, "length": length, "grow_together": together}
    by_context = [statistics.fmean(r["contexts"][1][i] for r in base) for i in range(len(contexts))]
    sentences["accuracy against context (Fig. 6)"] = "; ".join(
        f"{most} tokens {value:.1%}" for most, value in zip(contexts, by_context, strict=True) if most in (32, 96, 320)
    )
    figures["fig6"] = {"contexts": list(contexts), "accuracy": by_context}
    for name, other, key in (
        ("mirror descent against ReST (Fig. 10)", "ReST", "fig10"),
        ("curriculum and priorities against uniform prompts (Fig. 9)", "uniform prompts", "fig9"),
    ):
        text, figures[key] = against(runs, other)
        base_samples, other_samples = figures[key]["samples_to_level"]
        fewer = base_samples is not None and (other_samples is None or base_samples < other_samples)
        seen = fewer and figures[key]["verdict"] == "ahead"
        sentences[name] = f"{text}; the report's advantage is {'seen' if seen else 'NOT seen'} here"
    with_reward, without = (final(runs[name], "length") for name in ("length reward", BASE))
    text, figures["length_reward"] = against(runs, "length reward")
    figures["length_reward"] |= {"length": [without[0], with_reward[0]]}
    sentences["length reward"] = (
        f"{text}; {with_reward[0]:.1f} ± {with_reward[1]:.1f} tokens with it, "
        f"{without[0]:.1f} ± {without[1]:.1f} without"
    )
    partial, full = (curve(runs[name], "tokens", "accuracy") for name in (BASE, "full rollouts"))
    tokens = min(partial[0][-1], full[0][-1])
    equal = [at(c[0], c[1], tokens) for c in (partial, full)]
    deviation = [final(runs[name], "accuracy")[1] for name in (BASE, "full rollouts")]
    sentences["partial against full rollouts"] = (
        f"at {tokens / 1e3:.0f}k tokens {percent(equal[0], deviation[0])} against {percent(equal[1], deviation[1])}"
    )
    figures["partial"] = {"tokens": tokens, "accuracy": equal, "deviation": deviation}
    return {"sentences": sentences, "figures": figures}


def draw(runs: Runs, contexts: Sequence[int], path: Path) -> None:
    """Draw all figures on one sheet: means over seeds, with bands of one standard deviation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.ticker import PercentFormatter

    def lines(axes: Axes, names: Mapping[str, str], x: str, y: str, scale: float = 1.0) -> None:
        for name, label in names.items():
            xs, ys, deviation = curve(runs[name], x, y)
            xs = [value / scale for value in xs]
            (line,) = axes.plot(xs, ys, marker="o", markersize=3, label=label)
            low, high = ([v + side * s for v, s in zip(ys, deviation, strict=True)] for side in (-1, 1))
            axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)

    def accuracy_and_length(axes: Axes) -> None:
        lines(axes, {BASE: BASE}, "iteration", "accuracy")
        other = axes.twinx()
        xs, ys, _ = curve(runs[BASE], "iteration", "length")
        other.plot(xs, ys, color="tab:orange", linestyle="--")
        other.set_ylabel("tokens (dashed)", color="tab:orange")
        axes.set_xlabel("iteration")

    def by_context(axes: Axes) -> None:
        for place, label in ((0, "long-CoT SFT"), (1, "after RL")):
            rows = [run["contexts"][place] for run in runs[BASE]]
            axes.plot(contexts, [statistics.fmean(v) for v in zip(*rows, strict=True)], marker="o", ms=3, label=label)
        axes.legend(fontsize=8, frameon=False)
        axes.set_xlabel("tokens allowed")

    def samples(base: str, other: str) -> Callable[[Axes], None]:
        def drawn(axes: Axes) -> None:
            lines(axes, {BASE: base, other: other}, "samples", "accuracy")
            axes.set_xlabel("responses trained on")

        return drawn

    def lengths(axes: Axes) -> None:
        lines(axes, {BASE: "without", "length reward": "with"}, "iteration", "length")
        axes.set_xlabel("iteration")
        axes.set_ylabel("tokens")

    def partial(axes: Axes) -> None:
        lines(axes, {BASE: "partial", "full rollouts": "full"}, "tokens", "accuracy", scale=1000)
        axes.set_xlabel("thousand tokens")

    panels: list[tuple[str, Callable[[Axes], None], bool]] = [
        ("Accuracy and length (Fig. 5)", accuracy_and_length, True),
        ("Accuracy by context (Fig. 6)", by_context, True),
        ("Mirror descent and ReST (Fig. 10)", samples(BASE, "ReST"), True),
        ("Curriculum and uniform prompts (Fig. 9)", samples("curriculum, then priorities", "uniform prompts"), True),
        ("Length with and without length reward", lengths, False),
        ("Partial and full rollouts", partial, True),
    ]
    figure, grid = pyplot.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    for axes, (title, drawn, share) in zip(grid.flat, panels, strict=True):
        drawn(axes)
        axes.set_title(title, fontsize=10)
        axes.spines[["top"]].set_visible(False)
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set_ylabel("held-out accuracy")
    seeds = len(runs[BASE])
    figure.suptitle(f"RL on the nano world: mean and standard deviation of {seeds} seeds", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
