# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

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
from IPython.display import Markdown

from cryo_fewshot.display import findings, show_claims
from cryo_fewshot.experiments import profile_named, table_1
from cryo_fewshot.laboratory import open_laboratory
from cryo_fewshot.plots import accuracy_by_snr, use_style
from cryo_fewshot.tables import claims_frame, tidy_frame

use_style()
cells = table_1(profile_named(profile))
entries = open_laboratory(profile).run_cells(cells)
table = tidy_frame(cells, entries)
claims = claims_frame(cells, entries)
Markdown(findings(table, claims, profile_named(profile)))

# %% tags=["hide-input"]
accuracy_by_snr(table[table["n_episodes"] == table["n_episodes"].max()]);

# %% [markdown]
# ## What the paper claims, and what this run finds

# %% tags=["hide-input"]
show_claims(claims)

# %% [markdown]
# The paper's data sets were never released, so the subtomograms here are simulated anew from structures that stand in
# for its own; {doc}`structures` lists them one by one. Numbers of the paper and of this work may be
# compared in their order and their differences, less in their level.
#
# ## How to read on
#
# - {doc}`../methods` explains the method and its eight equations.
# - {doc}`../microscope` explains how a subtomogram is simulated, and what SNR means here.
# - {doc}`table1` is the paper's main table, regenerated, with every interval.
# - {doc}`../deviations` lists where the paper's text and its released code differ, and what this book does.
# - {doc}`../reproduce` says how to run all of it, or one table with other settings.
# - {doc}`status` says which machine computed what, and when.
