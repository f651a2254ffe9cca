# %% [markdown]
# # Table 1: accuracy on the simulated data
#
# The share of subtomograms recognised correctly, over many tasks. A task has five classes held out from training, five
# labelled subtomograms of each, or one, and 75 more to recognise.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
n_way = 5  # classes per task
methods = "baseline,ProtoNet3D,ProtoNet3D (mix),ProtoNet-CE,ProtoNet-CE (mix)"
split_seed = 0  # which classes are base, validation and novel
train_seed = 0  # initial weights and training episodes

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.claims import conclusions, substitutes_text

from cryo_fewshot.figures.charts import accuracy_by_snr
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, papers_size, show_accuracies, show_claims
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.quoted import TABLE_1_CLAIMS
from cryo_fewshot.reproduction.tables import claims_frame, tidy_frame

conclusions()

# %% tags=["hide-input"]
Markdown(substitutes_text())

# %% [markdown]
# ## At the paper's own size

# %% tags=["hide-input"]
papers_size(table_1(profile_named("paper")))

# %% [markdown]
# ## At a reduced size

# %% tags=["hide-input"]
page = Page(profile)
grid = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
training = {"n_way": n_way, "split_seed": split_seed, "train_seed": train_seed}
cells = table_1(page.settings, methods=methods.split(","), **grid, **training)
page.protocol(cells)

# %% tags=["hide-input", "nbval-check-output"]
entries = page.runner.run_cells(cells)
table = tidy_frame(cells, entries)
show_accuracies(table, TABLE_1_CLAIMS)

# %% [markdown]
# Mean accuracy and the half-width of its 95 % interval over all test episodes, which are the same for every method.
# The best of each column is bold. The interval is over episodes only: other class splits and training seeds move the
# numbers by more than that. Rows with "(mix)" are trained on all SNRs at once, the others on the SNR that they are
# tested at. The cells of the paper's own Table 1 are not quoted in its text; what is quoted stands below.

# %% tags=["hide-input"]
accuracy_by_snr(table[table["n_episodes"] == table["n_episodes"].max()]);

# %% [markdown]
# ## What the paper says about these numbers

# %% tags=["hide-input", "fold"]
show_claims(claims_frame(cells, entries, page.runner.store)).set_caption("What the paper quotes, and this run")

# %% [markdown]
# Differences between two methods are paired: taken task by task, on the same subtomograms. "Agrees": the paper's number
# lies within this work's interval. "Cannot be told": the interval contains the bound that the paper claims.
#
# ## The paper's 100 episodes
#
# The paper tests on 100 episodes. The first 100 of this run give:

# %% tags=["hide-input", "fold", "nbval-check-output"]
first_episodes = table[table["n_episodes"] == table["n_episodes"].min()]
show_accuracies(first_episodes, TABLE_1_CLAIMS).set_caption("The first 100 episodes")
