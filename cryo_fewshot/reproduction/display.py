"""Stored results as what a reader of the book sees: styled tables and sentences whose numbers are read off the runs."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from ..figures.style import use_style
from ..simulation.structures import registry
from ..subtomograms import split_classes
from .cells import Cell
from .profiles import Profile, profile_named
from .quoted import NOT_QUOTED, Claim
from .runner import open_runner
from .surrogates import Surrogate
from .tables import accuracy_of, by_task, paper_text, stored_at_papers_size


def show_accuracies(frame: pd.DataFrame, claims: Sequence[Claim] = ()) -> Styler:
    """A tidy table for reading: methods by shot and SNR with intervals, the best of a column bold; then the paper.

    With `claims` about the best method, the paper's number and the difference are shown where it quotes one.
    """
    frame = _all_episodes(frame)
    best = frame.loc[frame.groupby(["n_shot", "snr"], sort=False)["accuracy"].idxmax()]
    numbers = [_with_interval(f"{row.accuracy:.3f}", row.ci95) for row in frame.itertuples()]
    bold = [_bold(number, row in best.index) for row, number in zip(frame.index, numbers, strict=True)]
    table = by_task(frame.assign(shown=bold), "method", "shown")
    if not claims:
        table.loc["paper"] = NOT_QUOTED
        return plain_style(table)
    quoted, differences = [], []
    for row in best.itertuples():
        claim = next((c for c in claims if c.first == (None, row.snr) and c.n_shot == row.n_shot), None)
        quoted.append(paper_text(claim) if claim else NOT_QUOTED)
        differences.append(_with_interval(f"{row.accuracy - claim.paper:+.3f}", row.ci95) if claim else "–")
    table.loc["paper, each row"] = NOT_QUOTED
    table.loc["paper, best row"] = quoted
    table.loc["difference, best"] = differences
    return plain_style(table)


def show_real_data(frame: pd.DataFrame) -> Styler:
    """Table 4 for reading: per set and shot this work, the paper and the difference."""
    frame = _all_episodes(frame)
    shown: dict[tuple[str, str], dict] = {}
    for row in frame.itertuples():
        column = (row.class_set, f"{row.n_shot}-shot")
        unknown = pd.isna(row.paper)
        shown.setdefault((row.method, "this work"), {})[column] = _with_interval(f"{row.accuracy:.3f}", row.ci95)
        shown.setdefault((row.method, "paper"), {})[column] = NOT_QUOTED if unknown else f"{row.paper:g}"
        gap = "–" if unknown else _with_interval(f"{row.accuracy - row.paper:+.3f}", row.ci95)
        shown.setdefault((row.method, "difference"), {})[column] = gap
    table = pd.DataFrame(list(shown.values()), index=pd.MultiIndex.from_tuples(shown))
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return plain_style(table)


def show_surrogates(recipes: Mapping[str, Surrogate], split_seed: int) -> Styler:
    """What stands for what in the surrogates, and which classes are trained on under a split."""
    rows = []
    for name, recipe in recipes.items():
        split = split_classes(recipe.class_names, recipe.split_sizes, split_seed)
        for key, words in recipe.description.items():
            role = "training" if key in split.base else "test"
            rows.append({"Set": name, "Class": key, "What it is": words, "Role": role})
    return plain_style(pd.DataFrame(rows)).hide(axis="index")


def show_differences(frame: pd.DataFrame) -> Styler:
    """Paired differences for reading; bold where the interval leaves zero out."""
    numbers = [
        _bold(_with_interval(f"{row.difference:+.3f}", row.ci95), abs(row.difference) > row.ci95)
        for row in frame.itertuples()
    ]
    pairs = frame["method"] + " minus " + frame["against"]
    return plain_style(by_task(frame.assign(pair=pairs, shown=numbers), "pair", "shown"))


def show_precision(frame: pd.DataFrame) -> Styler:
    table = by_task(frame.assign(shown=frame["precision"].map("{:.3f}".format)), "method", "shown")
    table.loc["paper"] = NOT_QUOTED
    return plain_style(table)


def _all_episodes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["n_episodes"] == frame["n_episodes"].max()]


def _with_interval(number: str, interval: float) -> str:
    return f"{number}<br><small>±\u00a0{interval:.3f}</small>"


def _bold(text: str, is_bold: bool) -> str:
    return f"<strong>{text}</strong>" if is_bold else text


def show_claims(frame: pd.DataFrame) -> Styler:
    numbers = [f"{row.this_work:.3f} ±\u00a0{row.ci95:.3f}" for row in frame.itertuples()]
    shown = frame.assign(this_work=numbers, difference=frame["difference"].map("{:+.3f}".format))
    return _listed(shown.drop(columns="ci95").rename(columns={"claim": "What the paper quotes"}))


def show_judged(frame: pd.DataFrame) -> Styler:
    numbers = [
        f"{row.mean:.3f}<br><small>{row.low:.3f} to {row.high:.3f}</small>" if pd.notna(row.low) else f"{row.mean:.3f}"
        for row in frame.itertuples()
    ]
    shown = frame[["claim", "n_shot", "n_splits", "paper"]].rename(columns={"n_splits": "splits"})
    return _listed(shown.assign(this_work=numbers, verdict=frame["verdict"]))


def _listed(frame: pd.DataFrame) -> Styler:
    """A table without its index, its columns named as a reader expects them."""
    headings = {name: name.replace("_", " ").capitalize() for name in frame} | {"n_shot": "Shots"}
    return plain_style(frame.rename(columns=headings)).hide(axis="index")


def plain_style(frame: pd.DataFrame) -> Styler:
    # A fixed uuid: the same table has the same HTML at every run.
    return frame.style.set_uuid("table").set_table_styles(
        [{"selector": "th, td", "props": "text-align: left; padding: 0.3em 0.5em; min-width: 3.2em"}]
    )


def protocol_line(cells: Sequence[Cell], profile: Profile) -> str:
    evaluation = cells[0].evaluation
    run = evaluation.encoder
    shots = " and ".join(f"{n}-shot" for n in sorted({cell.evaluation.n_shot for cell in cells}, reverse=True))
    return (
        f"{evaluation.n_way}-way, {shots}, {evaluation.n_query} queries per class, {evaluation.n_episodes} test "
        f"episodes; class set {run.data.class_set}, {run.data.n_per_class} subtomograms per class and SNR, boxes of "
        f"{run.data.box}^3 at {run.data.voxel_size_nm:g} nm; "
        f"split {'/'.join(map(str, run.split_sizes))} with seed "
        f"{run.split_seed}, training seed {run.seed}, data seed {run.data.seed}, {run.precision}. "
        f"Profile {profile.name}: {profile.note}."
    )


def sum_of_distances(table: pd.DataFrame, n_improving: int = 0) -> str:
    """Whether the paper's claim about Table 2 holds in a run: the sum above either distance in most columns.

    n_improving : cells whose training was still improving; with any, there is no verdict
    """
    table = _all_episodes(table)
    wide = table.pivot(index=["n_shot", "snr"], columns="method", values="accuracy")
    if not {"d", "d*", "d + d*"} <= set(wide.columns):
        return "The sum and both of its parts were not all run."
    wins = int((wide["d + d*"] > wide[["d", "d*"]].max(axis=1)).sum())
    best = wide.mean().idxmax()
    verdict = "holds in this run" if 2 * wins > len(wide) else "does not hold in this run"
    if n_improving:
        verdict = f"has no verdict here, as the trainings behind {n_improving} cells were still improving"
    return (
        f"The sum d + d* is above both d and d* in {wins} of {len(wide)} columns: the paper's claim, that it is so in "
        f"most cases, {verdict}. The best on average is {best}, with {wide[best].mean():.3f}."
    )


def mixing(differences: pd.DataFrame) -> str:
    """What a run says about the paper's claims on mix training, read off the paired differences to Single."""
    lowest = differences["snr"].min()
    sentences = []
    for mix, part in differences.groupby("method", sort=False):
        gains = "; ".join(
            f"{row.difference:+.3f} ± {row.ci95:.3f} at SNR {row.snr:g}, {row.n_shot}-shot"
            for row in part[part["snr"] == lowest].itertuples()
        )
        better = int((part["difference"] > part["ci95"]).sum())
        sentences.append(
            f"{mix} is clearly above Single in {better} of {len(part)} columns, and in the heaviest noise by {gains}."
        )
    return " ".join(sentences) + " The paper finds Mix100 best, and Mix34 clearly above Single at SNR 0.03."


def class_text(frame: pd.DataFrame) -> str:
    """The easiest and the hardest class of a part of `class_frame`, per shot."""
    sentences = []
    for n_shot, part in frame.groupby("n_shot", sort=False):
        best, worst = part.loc[part["accuracy"].idxmax()], part.loc[part["accuracy"].idxmin()]
        sentences.append(
            f"{n_shot}-shot: easiest is {complex_name(best['class'])}, {best['accuracy']:.2f}; hardest "
            f"{complex_name(worst['class'])}, {worst['accuracy']:.2f}."
        )
    return " ".join(sentences)


def accuracy_text(cell: Cell, entry: dict) -> str:
    accuracy, interval = accuracy_of(entry)
    return _with_interval(f"{accuracy:.3f}", interval)


class Page:
    """How a notebook begins: the settings and the runner of a profile, and the protocol of its runs."""

    def __init__(self, profile: str):
        use_style()
        self.settings, self.runner = profile_named(profile), open_runner(profile)

    def protocol(self, cells: Sequence[Cell], *, before: str = "", after: str = ""):
        """The protocol line in Markdown, between sentences of the page's own."""
        from IPython.display import Markdown

        return Markdown(" ".join(["**Protocol.**", before, protocol_line(cells, self.settings), after]))


_PAPERS_SIZE = (
    "Boxes of 40³ voxels of 1 nm, the learning rate of the paper's text and the training length of its released code, "
    "stopped after 20 epochs without a better validation accuracy. One class split, one training per network, 1,000 "
    "tasks; a ± is the half-width of the 95 % interval over tasks."
)


def papers_size(cells: Sequence[Cell], number: Callable[[Cell, dict], str] = accuracy_text):
    """Cells of a table at the paper's own size, for reading: those that were run, the others "not run"; protocol."""
    from IPython.display import HTML

    at_hand, entries = stored_at_papers_size(cells)
    found = {cell: number(cell, entry) for cell, entry in zip(at_hand, entries, strict=True)}
    rows = [
        {
            "method": cell.method,
            "n_shot": cell.evaluation.n_shot,
            "snr": cell.evaluation.snr,
            "shown": found.get(cell, "not run"),
        }
        for cell in cells
    ]
    table = plain_style(by_task(pd.DataFrame(rows), "method", "shown").fillna("–")).to_html()
    return HTML(f"<p>{_PAPERS_SIZE}</p>{table}")


def complex_name(key: str) -> str:
    """A complex by its name, with its key behind: "GroEL 14-mer (1OEL)"; a class of no complex as it is."""
    names = registry()["name"]
    if key not in names:
        return key
    return f"{re.sub(r' [(].*?[)]', '', names[key].split(':')[0])} ({key})"  # without remarks on the entry


def complex_label(key: str, width: int = 16) -> str:
    """The same in lines of about so many letters, for a figure."""
    return textwrap.fill(complex_name(key), width, break_long_words=False)
