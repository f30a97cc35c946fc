"""What a chapter shows under "At a larger scale": the very claims of its own studies, asked of recorded runs.

Nothing is computed here that is not in a record, and no effect is defined here: the questions are the chapter's expressions."""

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from bncourse import claims, figures, records
from bncourse.claims import SIGNS, Shown, Verdict, VerdictChanged, picture, sentence
from bncourse.experiments import EXPERIMENTS, IN_WORDS
from bncourse.records import Record, RecordRefused
from bncourse.study import Study, StudyError

SCALES = {"desk": "CIFAR-10", "paper": "CIFAR-10, paper's scale"}
CHANCE = 0.1  # of ten classes


class Asked(list):
    """Studies; nothing to look at where a cell ends with them."""

    _ipython_display_ = Study._ipython_display_


def panel(name: str, *studies: Study, where: Mapping | None = None, differ: Mapping[str, str] | None = None,
          trained: Sequence[Study] = ()) -> list[Study]:
    """Show the records of an experiment, and what they say to the claims of these studies. Returns the studies, asked of the
    desk's record: for numbers in prose. Empty where there is no record.

    Args:
        name: of the experiment, one of ``EXPERIMENTS``.
        where: levels of the experiment's factors that the studies leave open, for example ``{"init": "he"}``.
        differ: the claims whose verdict at the desk is not that of this page, with the verdict there: what the prose below tells.
        trained: of these studies a look counts only where every network has left chance: a plateau is smooth, and has no shift.
    Raises ValueError: an unknown name. StudyError: a study that cannot be put to the record at all: another initialization,
    pixels, a level to be picked. VerdictChanged: other verdicts differ than ``differ`` says."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    found, asked = {}, {}
    for scale in SCALES:
        try:
            record = records.read(name, scale)
        except RecordRefused as error:
            _show(f"<p><strong>A record is not shown.</strong> {escape(str(error))}.</p>")
            continue
        if record:
            found[scale] = record
            asked[scale] = [_ask(one, record, where or {}, one in trained) for one in studies]
    if found:
        _draw(name, next(iter(found.values())), bool(trained))
        answers = {scale: {id: verdict for _, verdicts in asked[scale] for id, verdict in verdicts.items()} for scale in found}
        _table(answers, {id: claim for one in studies for id, (claim, _) in one.claims.items()})
        for record in found.values():
            _show(_provenance(record))
    for scale in [scale for scale in SCALES if scale not in found]:
        _show(_not_yet(name, scale))
    if "desk" in found:
        there = {id: verdict.word for id, verdict in answers["desk"].items() if verdict.word != claims.judged[id].expected}
        if there != dict(differ or {}) and claims.strict:
            raise VerdictChanged(f"at the desk these verdicts differ from the page's: {there}; the chapter says {dict(differ or {})}: "
                                 "its prose is no longer true")
    return Asked(one for one, _ in asked.get("desk", []))


def _ask(of: Study, record: Record, where: Mapping, trained: bool) -> tuple[Study, dict[str, Verdict]]:
    """A study at the scale of a record, and the verdicts on those of its claims that the record can answer."""
    design, frame = record.provenance["design"], record.frame
    for name, level in where.items():
        frame = frame[frame[name] == level]
    asked = record.provenance["data"]["name"], [name for name in design["factors"] if name not in where], design["fixed"]
    there = of.at(frame, *asked)
    if trained:
        try:
            there = of.at(_learning(frame), *asked)
        except StudyError:  # At no look had all of its networks left the plateau: there is nothing to ask.
            return there, {}
    verdicts = {}
    for id, (claim, prediction) in of.claims.items():
        try:
            prediction.quantity.check(there)
            verdicts[id] = claim.verdict(prediction.quantity.of(there))
        except StudyError:  # It names a network, a rate or a moment that is not there.
            continue
    return there, verdicts


def _learning(frame: pd.DataFrame) -> pd.DataFrame:
    """The looks at which every network had left the plateau of accuracy at chance, where any landscape is flat."""
    together = [column for column in ("init", "lr", "seed", "step") if column in frame]
    return frame[frame.groupby(together).train_accuracy.transform("min") > 2 * CHANCE]


def _draw(name: str, record: Record, trained: bool) -> None:
    """The pictures of the experiment; what was measured in runs that blew up is left out, and counted. ``trained``: but for
    accuracy, they show the looks that the claims are asked of."""
    experiment, design = EXPERIMENTS[name], record.provenance["design"]
    fig, axes = figures.panels(len(experiment.pictures))
    for ax, (measure, x, options) in zip(axes, experiment.pictures):
        options = dict(options)
        rows = record.frame
        for column, value in options.pop("where", {}).items():
            rows = rows[rows[column] == (rows[column].max() if column == "step" else value)]
        rows = rows[pd.notna(rows[measure.column]) & (rows[measure.column].abs() < float("inf"))]
        if measure.column != "train_accuracy":
            rows = rows[~rows.diverged]
            rows = _learning(rows) if trained else rows
        if measure.mean == "geometric":  # Nothing is below the first layer, so its shift is zero: it says nothing.
            rows = rows[rows[measure.column] > 0]
        rows = rows[rows.groupby(["norm", x]).seed.transform("nunique") > 1]
        figures.curves(ax, rows, measure.column, x, geometric=measure.mean == "geometric", **{"ylabel": measure.words} | options)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncol=3)
    runs = [*design["factors"], "seed"]
    lost, all_ = (frame.drop_duplicates(runs).shape[0] for frame in (record.frame[record.frame.diverged], record.frame))
    blew_up = f"Of all {all_} runs {lost} blew up" if lost else "No run blew up"
    plateau = (" Ranges and slopes of the loss are of looks at which every network had begun to learn." if trained and
               any(measure.column != "train_accuracy" for measure, *_ in experiment.pictures) else "")
    source, fixed = record.provenance["data"]["source"], design["fixed"]
    data = "CIFAR-10" if source == "the published files" else source
    init = figures.INITS.get(fixed.get("init"), "two initializations")
    batch = fixed["batch"] if "batch" in fixed else ", ".join(map(str, design["factors"]["batch"]))
    figures.show(fig, caption=figures.Measured.text(
        f"{experiment.title}: {IN_WORDS[record.scale]} on {data}; {fixed['steps']:,} steps, {init}, batches of {batch}; mean and "
        f"95 % interval over {len(record.provenance['seeds'])} seeds. {blew_up}.{plateau}"))


def _table(answers: dict[str, dict[str, Verdict]], of: dict) -> None:
    """Claim by claim: this page, the desk, the paper's scale, drawn against one threshold."""
    same, other = [], []
    for id, claim in of.items():
        scales = {"this page": claims.judged[id]} | {SCALES[scale]: verdicts[id] for scale, verdicts in answers.items() if id in verdicts}
        if len(scales) == 1:
            continue
        words = [verdict.word for verdict in scales.values()]
        lines = "".join(f'<li data-verdict="{verdict.word}"><span>{escape(name)}</span> <span class="claim-verdict">'
                        f'{SIGNS[verdict.word]} {verdict.word}</span> <span>{escape(verdict.effect_text())}</span></li>'
                        for name, verdict in scales.items())
        rows = same if words[1] == words[0] else other
        rows.append(f'<li class="scales"><p>{escape(sentence(claim.says))} '
                    f'<small>Predicted: {escape(claims.judged[id].prediction_text())}.</small></p>'
                    f'<ul>{lines}</ul>{picture(*scales.values(), width=180)}</li>')
    if not same + other:
        _show("<p>None of this chapter's claims can be asked there.</p>")
        return
    text = f"Of {len(same + other)} claims that could be asked there, {len(other) or 'none'} get{'s' * (len(other) == 1)} another verdict."
    shown, folded = (f'<ul class="all-scales">{"".join(rows)}</ul>' if rows else "" for rows in (other, same))
    folded = f"<details><summary>{len(same)} with the same verdict</summary>{folded}</details>" if same else ""
    _show(f"<p>{text}</p>{shown}{folded}",
          scales=[{"id": id, "scale": scale, "data": SCALES[scale], "verdict": verdict.word, "effect_text": verdict.effect_text()}
                  for scale, verdicts in answers.items() for id, verdict in verdicts.items()])


def _not_yet(name: str, scale: str) -> str:
    if not records.FOLDER.is_dir():
        return "<p><strong>No records here:</strong> they come with the book, whose published page shows them.</p>"
    where = "on a GPU" if scale == "paper" else "on two processor cores"
    return (f"<p>{escape(sentence(SCALES[scale]))}: not recorded yet. <code>python -m bncourse reproduce {name} --scale {scale} --record"
            f"</code> does it, {where}.</p>")


def _provenance(record: Record) -> str:
    told = record.provenance

    def each(value):
        return "; ".join(", ".join(f"{key} {one}" for key, one in part.items()) for part in (value if isinstance(value, list) else [value]))

    facts = {
        "Command": told["command"],
        "Commit": told["commit"] + (", with changes that are in no commit" if told["dirty"] else ""),
        "When": f"{told['started']} to {told['finished']}",
        "Machine": each(told["hardware"]), "Versions": each(told["versions"]),
        "Data": f"{told['data']['source']}, SHA-256 {told['data']['sha256'][:16]}…",
        "Seeds": ", ".join(map(str, told["seeds"])), "Precision of the training steps": told["precision"],
        "Computing time": f"{told['seconds'] / 60:,.1f} min in all, peak memory {told['peak_memory_mib']:,.0f} MiB",
    }
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{escape(str(fact))}</td></tr>' for name, fact in facts.items())
    differs = "".join(f"<li>{escape(one)}</li>" for one in told["deviations"])
    return (f'<details class="provenance"><summary>{escape(SCALES[record.scale])}: where this comes from, and how it differs from the paper'
            f'</summary><table class="dataframe"><tbody>{rows}</tbody></table><ul>{differs}</ul></details>')


def _show(html: str, **told) -> None:
    Shown(f'<div class="panel">{html}</div>', **told).show()
