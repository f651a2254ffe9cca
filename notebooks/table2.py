# %% [markdown]
# # Table 2: which distance decides
#
# ProtoNet-CE measures two distances from a query to each prototype: *d* in the encoder's space, which is the same for
# every task, and *d\** in the space that the attention adapts to the task at hand. The paper adds them and finds the
# sum better than either in most cases. Its Remark 1 suggests other ways to combine them; they are tried here.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
n_way = 5  # classes per task
heads = "d,d*,d + d*,d × d*,weighted sum,z-scored sum"  # which distances decide
split_seed = 0  # which classes are base, validation and novel
train_seed = 0  # initial weights and training episodes

# %% tags=["hide-input"]
from IPython.display import Markdown

from cryo_fewshot.reproduction.cells import table_2
from cryo_fewshot.reproduction.display import Page, papers_size, show_accuracies, show_differences, sum_of_distances
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.tables import differences_frame, still_improving, stored_at_papers_size, tidy_frame

# %% [markdown]
# ## At the paper's own size

# %% tags=["hide-input"]
full_size = table_2(profile_named("paper"))
papers_size(full_size)

# %% tags=["hide-input"]
at_hand = stored_at_papers_size(full_size)
Markdown(sum_of_distances(tidy_frame(*at_hand)) if at_hand[0] else "")

# %% [markdown]
# ## At a reduced size

# %% tags=["hide-input"]
page = Page(profile)
grid = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
training = {"n_way": n_way, "split_seed": split_seed, "train_seed": train_seed}
cells = table_2(page.settings, heads=heads.split(","), **grid, **training)
page.protocol(cells)

# %% tags=["hide-input", "nbval-check-output"]
entries = page.runner.run_cells(cells)
table = tidy_frame(cells, entries)
show_accuracies(table)

# %% [markdown]
# Mean accuracy with the half-width of its 95 % interval. *d* alone is ProtoNet3D, *d + d\** is ProtoNet-CE. The weight
# of the weighted sum is chosen on episodes of the validation classes, for each encoder separately. The z-scored sum
# first brings both distances to one scale.
#
# ## Is the sum better? Differences on the same tasks

# %% tags=["hide-input"]
differences = differences_frame(cells, entries, against="d")
show_differences(differences)

# %% tags=["hide-input"]
Markdown(sum_of_distances(table, len(still_improving(page.runner.store, cells))))
