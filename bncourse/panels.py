"""What a chapter shows under "At full scale": a record, where it comes from, and whether the chapter's small runs agree.

Nothing is computed here that is not in the record. Without one the panel says so, and which command would make it.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd

from bncourse import claims, figures, records
from bncourse.claims import Interval, Verdict, interval, number
from bncourse.lab import Lab
from bncourse.records import Record, RecordRefused
from bncourse.reproduce import EXPERIMENTS, reproduce
from bncourse.reproduce.experiment import trained, where
from bncourse.reproduce.lp import layered


@dataclass(frozen=True)
class View:
    """One picture of a record: the mean of column ``y`` over seeds (and layers) against ``x``, a line per normalizer."""

    title: str
    y: str
    says: str  # what y is, on the axis
    rows: Callable[[pd.DataFrame], pd.DataFrame]
    x: str = "step"
    log: str = ""  # axes on a logarithmic scale


def last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.step == frame.step.max()]


def vgg_above_the_first(frame: pd.DataFrame, lr: float) -> pd.DataFrame:
    """From Glorot initialization, without the first layer, of which Definition 2.1 has nothing to say."""
    return where(frame[frame.layer > 1], network="vgg", init="glorot", lr=lr)


def main_network(frame: pd.DataFrame) -> pd.DataFrame:
    return where(trained(frame), lr=0.1)


AXES = {"step": "training step", "lr": "learning rate", "size": "examples in a batch"}
VIEWS = {
    "curves": [View(f"learning rate {lr}", "train_accuracy", "training accuracy", lambda frame, lr=lr: where(frame, lr=lr))
               for lr in (0.1, 0.5)],
    "noisy": [View("shift of layer inputs", "mean_step", "one-step shift of the mean", lambda frame: frame, log="y"),
              View("training", "train_accuracy", "training accuracy", lambda frame: frame)],
    "shift": [View(f"VGG, Glorot, learning rate {lr}", "relative", "relative shift (Definition 2.1)",
                   lambda frame, lr=lr: vgg_above_the_first(frame, lr)) for lr in (0.01, 0.1)],
    "landscape": [View("along the gradient", "loss_range", "range of the loss", main_network, log="y"),
                  View("edge of stability at 2", "beta_lr", "β × learning rate", main_network, log="y")],
    "lp": [View("learning rate 0.1", "train_accuracy", "training accuracy", lambda frame: where(layered(frame), lr=0.1)),
           View("deep linear network", "train_loss", "loss", lambda frame: where(frame, network="dln"), log="y")],
    "lr-range": [View("at the end", "train_accuracy", "training accuracy", last, x="lr", log="x")],
    "batch-size": [View("recomputed statistics", "test_accuracy", "test accuracy", last, x="size", log="x")],
    "normalizers": [View("at the end", "train_accuracy", "training accuracy", last, x="lr", log="x")],
    "correlation": [View("mean over the training", "relative", "relative shift (Definition 2.1)",
                         lambda frame: where(frame, init="he"), x="lr", log="xy"),
                    View("at the end", "train_loss", "training loss",
                         lambda frame: where(last(frame), init="he"), x="lr", log="xy")],
}


def panel(name: str, lab: Lab, verdicts: Sequence[Verdict] | None = None) -> None:
    """Display the record of an experiment: figure, agreement with the verdicts of this notebook, provenance.

    With ``SCALE = "paper"`` the experiment is run instead, here and now; interrupted, it goes on where it was.

    Args:
        name: of the experiment, one of ``reproduce.EXPERIMENTS``.
        verdicts: to compare; by default all of this notebook that the experiment measures too.

    Raises:
        ValueError: an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    effects = EXPERIMENTS[name].effects
    verdicts = [each for each in (claims.judged.values() if verdicts is None else verdicts) if each.claim.id in effects]
    try:
        record = _live(name, lab) if lab.scale == "paper" else records.read(name)
    except RecordRefused as error:
        return _say(f"<strong>No full-scale result is shown.</strong> {escape(str(error))}.")
    if record is None:
        return _say(_not_yet(name))
    _draw(record)
    if verdicts:
        _say(_agreement(record, verdicts))
    _say(_provenance(record))


def _not_yet(name: str) -> str:
    told = "<strong>Not yet recorded.</strong> "
    if not records.FOLDER.is_dir():
        told = ("<strong>No records here:</strong> they come with the book, whose published page shows this one if there is "
                "one. ")
    return (f"{told}On a machine with a GPU and a checkout of this repository, <code>python -m bncourse reproduce {name} "
            '--data cifar10 --scale paper --record</code> makes it. <code>SCALE = "paper"</code> in the settings above runs it '
            "here.")


def _live(name: str, lab: Lab) -> Record:
    from bncourse.data import cache_dir

    folder = cache_dir() / "reproduced" / "paper-cifar10"
    _say(f"Running the experiment <code>{name}</code> at the paper's scale, on CIFAR-10. Finished runs are kept in "
         f"<code>{escape(str(folder / name))}</code>: interrupted, this cell goes on where it was.")

    def tell(done: int, of: int, left: float | None, run) -> None:
        print(f"{done} of {of} runs" + (f", about {left / 60:.0f} min left" if left else ""), flush=True)

    frame = reproduce(name, data="cifar10", scale="paper", device=lab.device, out=folder, progress=tell)
    return Record(name, frame, frame.attrs["provenance"] | {"command": 'this notebook with SCALE = "paper"'})


def _draw(record: Record) -> None:
    import matplotlib.pyplot as plt

    views, frame, found = VIEWS[record.name], record.frame, []
    # One below the other: side by side they would be too small to read on a phone.
    fig, axes = plt.subplots(len(views), figsize=(4.8, 0.6 + 3.2 * len(views)), squeeze=False)
    for ax, view in zip(axes[:, 0], views):
        rows = view.rows(frame)
        rows = rows[np.isfinite(rows[view.y].astype(float))]
        figures.curves(ax, rows, view.y, view.x)
        ax.set(title=view.title, xlabel=AXES[view.x], ylabel=view.says)
        for axis in view.log:
            getattr(ax, f"set_{axis}scale")("log")
        if view.x != "step":  # Few values, each of them of interest.
            values = sorted(rows[view.x].unique())
            ax.set_xticks(values, [f"{value:g}" for value in values], rotation=45 if len(values) > 5 else 0)
            ax.minorticks_off()
        ends = figures.over_seeds(rows, view.y, ["norm", view.x]).groupby("norm")["mean"].last()
        ends = {figures.NAMES.get(norm, norm): number(ends[norm]) for norm in rows.norm.unique() if norm in ends}
        ends = ", ".join(f"{name} {end}" for name, end in ends.items())
        found.append(f"{view.title}, {view.says} at the right end: {ends}")
        if view.y.endswith("accuracy"):
            ax.set_ylim(0, 1.02)  # An interval from three seeds may reach beyond what there is.
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    of_a_run = [column for column in ("network", "norm", "init", "lr", "size", "seed") if column in frame]
    runs, lost = frame.drop_duplicates(of_a_run), frame[frame.diverged].drop_duplicates(of_a_run)
    caption = (f"{EXPERIMENTS[record.name].title}, at full scale: mean over {frame.seed.nunique()} seeds and 95 % interval. "
               + (f"{len(lost)} of {len(runs)} runs blew up; from then on they count with chance accuracy, and in what was "
                  "measured inside the networks not at all." if len(lost) else "No run blew up."))
    figures.show(fig, alt=f"Full scale. {'. '.join(found)}.", caption=caption)


def _agreement(record: Record, verdicts: Sequence[Verdict]) -> str:
    """A table: what each claim measured in this notebook, and in the record; on the same side of its threshold?"""
    rows = []
    for verdict in verdicts:
        claim, threshold = verdict.claim, verdict.claim.above if verdict.claim.above is not None else verdict.claim.below
        values = np.asarray(EXPERIMENTS[record.name].effects[claim.id](record.frame), float)
        here, there = _summary(verdict.values, claim.ratio), _summary(values, claim.ratio)
        if math.isnan(here) or math.isnan(there):
            same = "cannot be said"
        else:
            same = "yes" if (here > threshold) == (there > threshold) else "no"
        rows.append((claim.says, verdict.prediction_text(), verdict.effect_text(), _text(verdict, values), same))
    head = "Claim", "Predicted", "This notebook", "Full scale", "Same side of the threshold?"
    agree = sum(row[-1] == "yes" for row in rows)
    head = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (f"<p>Of {len(rows)} effects measured at both scales, {agree} lie on the same side of their threshold.</p>"
            f'<table class="dataframe full-scale"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _summary(values: Sequence[float], ratio: bool) -> float:
    """The mean; of ratios the geometric one. A run that blew up may make it infinite, which lies on a side, too."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.exp(np.log(values).mean()) if ratio else values.mean())


def _text(verdict: Verdict, values: np.ndarray) -> str:
    try:
        found = interval(values, verdict.claim.ratio)
    except ValueError:  # One seed, or a number that is not finite: no interval, but each seed's own can be shown.
        return ", ".join(re.sub(r" \[.*\]", "", replace(verdict, effect=Interval(value, value, value, 1)).effect_text())
                         if math.isfinite(value) else "none" if math.isnan(value) else "infinite" for value in values)
    return replace(verdict, effect=found).effect_text() + f", {found.seeds} seeds"


def _provenance(record: Record) -> str:
    told = record.provenance
    machines = told["hardware"] if isinstance(told["hardware"], list) else [told["hardware"]]
    versions = told["versions"] if isinstance(told["versions"], list) else [told["versions"]]
    data = told["data"]
    facts = {
        "Command": told["command"],
        "Commit": told["commit"] + (", with changes that are in no commit" if told["dirty"] else ""),
        "When": f"{told['started']} to {told['finished']}",
        "Machine": "; ".join(", ".join(f"{name} {value}" for name, value in one.items()) for one in machines),
        "Versions": "; ".join(", ".join(f"{name} {value}" for name, value in one.items()) for one in versions),
        "Data": f"{data['name']}, {data['source']}, SHA-256 {data['sha256'][:16]}…" + (f"; {data['note']}" if data.get("note")
                                                                                       else ""),
        "Seeds": ", ".join(map(str, told["seeds"])),
        "Precision of the training steps": told["precision"],
        "Steps": "; ".join(one if isinstance(one, str) else ", ".join(f"{name}: {value}" for name, value in one.items())
                           for one in told.get("training", ["plain"])),
        "Computing time": f"{told['seconds'] / 60:,.1f} min in all, peak memory {told['peak_memory_mib']:,.0f} MiB",
    }
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{escape(str(fact))}</td></tr>' for name, fact in facts.items())
    differs = "".join(f"<li>{escape(each)}</li>" for each in told["deviations"])
    return ('<details class="provenance"><summary>Where this comes from, and how it differs from the paper</summary>'
            f'<table class="dataframe"><tbody>{rows}</tbody></table><ul>{differs}</ul></details>')


def _say(html: str) -> None:
    from IPython.display import HTML, display

    html = html if html.startswith(("<p>", "<details")) else f"<p>{html}</p>"
    display(HTML(f'<div class="panel">{html}</div>'))
