# %% [markdown]
# # Open world
#
# The paper's tables ask one question: which of five classes is it? Real work asks more. Is it any of them? What if
# there are twenty? How much do more labels help? This page puts these questions to the
# pretrained encoder ({doc}`encoder_card`).
#
# Unless stated otherwise, the tasks are those of {doc}`table1` among its eight test classes. These are held out from
# training and calibration, though the recipe was chosen by looking at them. Methods are compared on the same tasks. Two
# classifiers use the embeddings of the pretrained encoder:
#
# - **Nearest prototype**: the class whose labelled examples have the nearest mean.
# - **PLDA**, which `cryo-fewshot classify` builds on. It models the scatter within and between classes, estimated on
#   other classes, and so also knows how likely an unknown class is.
#
# Beside them stands the paper's **ProtoNet3D (mix)**, trained on 5-shot tasks of ten classes as the profile below says,
# and tested with other numbers of labels too. Its training was far shorter than that of the pretrained encoder.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
many_shots = "1,2,3,5,10,20,50"  # of the curve against the number of labels
surrogate_shots = "5,3,1"  # of the surrogate data sets
samples = "100,500"  # per class, that the supervised networks were trained on
n_per_class = 25  # subtomograms of each class that the oracle looks at

# %% tags=["hide-input"]
import pandas as pd
from studies import open_world_tables as tables
from studies.bounds import bounds_frame
from studies.label_order import LabelOrder
from studies.open_world import paper_like
from studies.pretrained import Pretrained

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.reproduction.cells import Cell
from cryo_fewshot.reproduction.display import Page, plain_style
from cryo_fewshot.reproduction.profiles import numbers
from cryo_fewshot.reproduction.tables import keep_table

page = Page(profile)
pretrained = Pretrained.load()
asked = page.runner, pretrained, page.settings
chosen = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
page.protocol(
    [Cell(tables.PAPER_LIKE, paper_like(page.settings, chosen["snrs"][0], shot)) for shot in chosen["shots"]]
)

# %% [markdown]
# ## Is it any of them?
#
# Each task has five of the test classes with labels. Particles of unknown classes join its queries: those of the three
# test classes that the task leaves out, or boxes without a macromolecule. The table has the area under the ROC curve:
# how often a particle of a known class scores above one of an unknown class, 0.5 for guessing. *Distance* is that to
# the nearest prototype. *Likelihood ratio* is the tool's score: how much likelier a particle is under the labelled
# classes than under an unknown one.

# %% tags=["hide-input", "nbval-check-output"]
rejection = tables.rejection_frame(*asked, **chosen)
keep_table(rejection, "unknown_classes")
tables.show_by_task(rejection, "strangers", "auroc")

# %% [markdown]
# Here and below, ± is the 95 % half-width over tasks. It says how precisely these classes are measured, not how other
# classes would do. Boxes without a macromolecule are not new to either network: the pretrained encoder was trained on
# them, and the epoch of ProtoNet3D (mix) was selected with them.
#
# {doc}`encoder_card` says how many the tool's default threshold accepts of either, and whether the probability can be
# trusted.

# %% [markdown]
# ## More classes
#
# Accuracy falls as classes are added. Beyond the eight test classes there are only classes that took part in making the
# encoder: the calibration classes were not trained on, but served to select the epoch and to fit PLDA, and most of the
# paper's 22 complexes were trained or calibrated on. Those rows are no test on held-out classes; they show how accuracy
# falls as a task grows. ProtoNet3D (mix) is left out where its own training classes take part.

# %% tags=["hide-input", "nbval-check-output"]
groups = tables.class_groups(pretrained, page.settings)
ways = tables.tasks_frame(*asked, groups, **chosen)
keep_table(ways, "more_ways")
tables.show_by_task(ways, "tasks", "accuracy")

# %% [markdown]
# ## More labels
#
# One or two labels of each class already match the supervised networks of {doc}`bounds`, which were trained on 100 and
# 500 samples of the very test classes, though for 150 steps only. The dashed lines do not depend on the labels.

# %% tags=["hide-input"]
five_way, many = dict(list(groups.items())[:1]), numbers("many_shots", many_shots, int)
shots = tables.tasks_frame(*asked, five_way, snrs=chosen["snrs"], shots=many)
bounds = bounds_frame(
    page.runner, page.settings, snrs=chosen["snrs"], oracle_snrs=chosen["snrs"],
    samples=numbers("samples", samples, int), n_per_class=n_per_class,
)  # fmt: skip
bounds = bounds[bounds["method"].str.startswith(("supervised", "oracle"))]
shots = pd.concat([shots, bounds.merge(pd.DataFrame({"n_shot": many}), how="cross")], ignore_index=True)
curves_figure(
    shots, x="n_shot", curve="method", panel="snr", x_label="labels per class",
    panel_label="SNR {:g}", chance=1 / 5, dashed=list(bounds["method"].unique()), log_x=True, bottom=0.4,
);  # fmt: skip

# %% [markdown]
# ## Surrogates of the real data sets, all classes at once
#
# These are the simulated surrogates of {doc}`table4`, resampled to the encoder's box and voxel size as the tool does
# with a user's files. Nothing was trained for them. The last column is from **another data set**, of real particles,
# and another network, also trained on simulated volumes; its ± is the spread over ten seeds. It is there for scale: the
# two columns cannot be compared.

# %% tags=["hide-input", "nbval-check-output"]
surrogates = tables.surrogates_frame(*asked, shots=numbers("surrogate_shots", surrogate_shots, int))
keep_table(surrogates, "surrogates")
tables.show_surrogates_at_once(surrogates)

# %% [markdown]
# The encoder was trained on some of these structures or on homologues of them. The set of Guo et al. is noisy (SNR
# 0.01; {doc}`encoder_card` has the range of the training), and a 26S proteasome with two caps is longer than the
# encoder's box of 40 nm: its ends are cut off, and with them part of what tells one cap from two.
#
# ## What to label next
#
# The tool names the particles whose labels would help most. Each task has 40 particles of each of five classes with one
# label each and of three classes without any, all of them classes that the encoder was calibrated with, SNR 0.05. Each
# round adds ten labels, in the proposed or in random order; the first label of a class adds the class.

# %% tags=["hide-input"]
order = page.runner(LabelOrder(encoder=pretrained.card_digest), pretrained)
shown = pd.DataFrame(order["result"]["rows"])
plain_style(shown.pivot(index="n_labels", columns="order", values="accuracy")).format(precision=3)
