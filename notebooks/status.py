# %% [markdown]
# # Status: what was run, where and when
#
# Almost every number of this book is read from a store of results. An entry holds its settings, the machine and the
# time it took; the store verifies its checksum before the entry is shown.
#
# A few are not in the store: fifteen trainings that were repeated with the faster first block, and the two speeds of
# `classify` on a million particles (with and without other programs running), were written by hand into
# `benchmarks/NOTES.md`. No stored entry stands behind them.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.status import show_profiles, show_trainings, training_histories

from cryo_fewshot.figures.charts import training_figure
from cryo_fewshot.reproduction.display import Page
from cryo_fewshot.reproduction.store import results_folder

page = Page(profile)
store = page.runner.store
Markdown(f"This book shows the profile **{profile}**: {page.settings.note}.")

# %% tags=["hide-input"]
show_profiles(results_folder)

# %% [markdown]
# A profile that has not been run says so; its numbers appear nowhere in this book.
#
# ## Trainings
#
# Loss on training episodes and accuracy on the validation classes after each epoch. The model with the best validation
# accuracy is the one that is tested.

# %% tags=["hide-input"]
training_figure(training_histories(store));

# %% tags=["hide-input", "fold"]
show_trainings(store).set_caption("Trainings")

# %% [markdown]
# ## Versions

# %% tags=["hide-input"]
import platform
from importlib.metadata import version

import pandas as pd

packages = ["cryo-fewshot", "torch", "numpy", "scipy", "pandas", "torch-ctf", "matplotlib", "plotly", "jupyter-book"]
pd.Series({"Python": platform.python_version()} | {name: version(name) for name in packages}, name="version").to_frame()
