# %% [markdown]
# # Table 3: training on mixed noise
#
# A network that has seen only one noise level may learn the noise along with the molecules. The paper trains ProtoNet3D
# on all three SNRs at once: with all samples of each (Mix100, three times the data), or with a third of each (Mix34, as
# much data as training on one SNR). The test is always at one SNR.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
n_way = 5  # classes per task
mixes = "Single,Mix100,Mix34"  # what the encoder is trained on
split_seed = 0  # which classes are base, validation and novel
train_seed = 0  # initial weights and training episodes

# %% tags=["hide-input"]
from IPython.display import Markdown

from cryo_fewshot.figures.charts import accuracy_by_snr
from cryo_fewshot.reproduction.cells import table_3
from cryo_fewshot.reproduction.display import Page, mixing, papers_size, show_accuracies, show_differences
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.tables import differences_frame, tidy_frame

# %% [markdown]
# ## At the paper's own size

# %% tags=["hide-input"]
papers_size(table_3(profile_named("paper")))

# %% [markdown]
# ## At a reduced size

# %% tags=["hide-input"]
page = Page(profile)
grid = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
training = {"n_way": n_way, "split_seed": split_seed, "train_seed": train_seed}
cells = table_3(page.settings, mixes=mixes.split(","), **grid, **training)
page.protocol(cells)

# %% tags=["hide-input", "nbval-check-output"]
entries = page.runner.run_cells(cells)
table = tidy_frame(cells, entries)
show_accuracies(table)

# %% [markdown]
# Mean accuracy with the half-width of its 95 % interval over tasks; another training seed moves it by more than that.
#
# ## What mixing changes, on the same tasks

# %% tags=["hide-input"]
differences = differences_frame(cells, entries, against="Single")
show_differences(differences)

# %% tags=["hide-input"]
Markdown(mixing(differences))

# %% tags=["hide-input"]
accuracy_by_snr(table[table["n_episodes"] == table["n_episodes"].max()]);
