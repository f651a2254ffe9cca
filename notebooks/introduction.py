# %% [markdown]
# # Recognising macromolecules from a handful of examples
#
# An electron tomogram of a cell shows thousands of molecular machines in three dimensions, each a faint shape in
# heavy noise. Sorting them by kind takes labels, and labels are dear. Li et al. {cite}`li2020` proposed to learn, on
# complexes that are well known, *what makes two particles alike*, and then to recognise new complexes from five
# labelled examples, or one. This book runs their method again from the atomic models up, and says what holds.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown

from cryo_fewshot.figures.charts import accuracy_by_snr
from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import findings, plain_style, show_claims
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.reproduction.tables import claims_frame, tidy_frame
from cryo_fewshot.weights import load_encoder

use_style()
cells = table_1(profile_named(profile))
runner = open_runner(profile)
entries = runner.run_cells(cells)
table = tidy_frame(cells, entries)
claims = claims_frame(cells, entries, runner.store)
Markdown(findings(table, claims, profile_named(profile)))

# %% tags=["hide-input"]
accuracy_by_snr(table[table["n_episodes"] == table["n_episodes"].max()]);

# %% [markdown]
# ## What the paper claims, and what this run finds

# %% tags=["hide-input"]
show_claims(claims)

# %% [markdown]
# ## Past the paper
#
# The paper trains on a hundred fixed volumes of each of ten classes. The pretrained encoder of this package is trained
# for longer, on samples simulated on the fly of all complexes outside the homologous families of the test
# classes, with global average pooling. That changes more than any variant of the paper's; {doc}`ablation` takes it
# apart.

# %% tags=["hide-input"]
expected = {(row["snr"], row["n_shot"]): row for row in load_encoder()[1]["expected_accuracy"]}
best = table[table["n_episodes"] == table["n_episodes"].max()].groupby(["snr", "n_shot"])["accuracy"].max()
rows = [
    (f"SNR {snr:g}, {n_shot}-shot", f"{accuracy:.3f}", f"{expected[snr, n_shot]['accuracy']:.3f}")
    for (snr, n_shot), accuracy in best.sort_index(ascending=False).items()
    if (snr, n_shot) in expected
]
plain_style(pd.DataFrame(rows, columns=["Task", "Best of Table 1", "Pretrained encoder"])).hide(axis="index")

# %% [markdown]
# Same test classes, subtomograms of 20³ voxels and tasks; {doc}`encoder_card` says how it was made, and {doc}`own_data`
# how to use it on particles of your own.
#
# ## What to keep in mind
#
# The paper's data sets were never released, so the subtomograms here are simulated anew, from the structures that
# {doc}`structures` lists. Compare order and differences of the paper's numbers and of these, less their level.
#
# ## How to read on
#
# - {doc}`../methods` explains the method and its eight equations.
# - {doc}`../microscope` explains how a subtomogram is simulated, and what SNR means here.
# - {doc}`table1` is the paper's main table, regenerated, with every interval; {doc}`claims` judges it over several
#   splits of the classes, and {doc}`bounds` says how hard the data are.
# - {doc}`ablation` goes past the paper step by step; {doc}`open_world` has unknown classes, more classes and more
#   labels; {doc}`real_particles` has real particles.
# - {doc}`../deviations` lists where the paper's text and its released code differ, and what this book does.
# - {doc}`../reproduce` says how to run all of it, or one table with other settings.
# - {doc}`status` says which machine computed what, and when.
