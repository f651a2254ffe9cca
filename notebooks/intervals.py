# %% [markdown]
# # What an interval counts
#
# Over tasks the interval of an accuracy is narrow; over classes and particles it is many times wider. An interval
# answers the question "what if it were done again?", and its width depends on what is done again.
#
# :::{list-table}
# :header-rows: 1
# :class: prose
# * - Interval
#   - What is drawn again
#   - What it leaves out
#   - Where
# * - over tasks: 1.96 s / √n
#   - the tasks, from the same particles and classes
#   - other particles, other classes, other trainings
#   - {doc}`table1` to {doc}`table4`, as few-shot papers report it
# * - over classes and particles: two-stage bootstrap
#   - the test classes, and the particles of each
#   - other trainings, other labelled particles
#   - here
# * - Wilson's
#   - the particles of one class
#   - other classes, other trainings
#   - {doc}`table_a`
# * - over splits: Student's
#   - which classes are trained on and which tested
#   - other settings of the training
#   - {doc}`claims`
# * - over seeds: standard error
#   - first weights and training tasks
#   - other classes and particles
#   - {doc}`ablation`, {doc}`geometry`
# :::

# %% tags=["parameters"]
store = "cpu"  # folder of results
n_shot = 5  # labelled subtomograms per class

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.data_intervals import QueryCounts, intervals_frame
from studies.pretrained import Pretrained, published_runner

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, plain_style
from cryo_fewshot.reproduction.tables import accuracy_of

page, runner, pretrained = Page(store), published_runner(store), Pretrained.load()
cells = table_1(page.settings, shots=[n_shot], methods=["ProtoNet3D (mix)"])
entries = {(cell.method, cell.evaluation.snr): runner(QueryCounts(evaluation=cell.evaluation)) for cell in cells}
for cell in cells:
    spec = QueryCounts(evaluation=cell.evaluation, encoder=pretrained.digest)
    entries["pretrained encoder", cell.evaluation.snr] = runner(spec, pretrained.encoder)
page.protocol(cells)

# %% tags=["hide-input"]
frame = intervals_frame({key: entry["result"] for key, entry in entries.items()})
shown = frame.assign(low=[f"{row.low:.3f} to {row.high:.3f}" for row in frame.itertuples()]).drop(columns="high")
shown.columns = ["Method", "SNR", "Accuracy", "± over tasks", "± over particles", "± over classes, particles", "95 %"]
plain_style(shown).format(precision=3).format("{:g}", subset=["SNR"]).hide(axis="index")

# %% tags=["hide-input"]
first, _ = accuracy_of(runner(cells[0].evaluation))
wider = (frame["over_classes_and_particles"] / frame["over_tasks"]).round(1)
particles = (frame["over_particles"] / frame["over_tasks"]).round(1)
Markdown(
    f"Drawing the particles again makes the half-width {particles.min():g} to {particles.max():g} times that over "
    f"tasks; drawing classes and particles again, {wider.min():g} to {wider.max():g} times. For this page "
    f"{cells[0].method} was trained again with the settings of Table 1, as its weights had not been kept: "
    f"{frame['accuracy'][0]:.3f} at SNR {frame['snr'][0]:g} instead of {first:.3f}. None of these intervals counts "
    "what another training changes."
)

# %% [markdown]
# **The usual interval is too narrow for the question that most readers ask.** A thousand tasks reuse the same hundred
# particles of each of eight classes. More tasks make the interval as narrow as one likes, but teach nothing about other
# particles or complexes (arXiv 2409.02850).
#
# **The two-stage bootstrap counts the data.** Classes are drawn with replacement, then particles of each, 2,000 times;
# a query weighs as often as it and its class were drawn. With eight test classes it is their choice that makes the
# interval wide. In the paired difference of two methods on the same tasks easy and hard classes cancel: the wide
# interval warns of the level of accuracy, and of the step to your own complexes.
