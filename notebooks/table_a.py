# %% [markdown]
# # Table A: precision, and which classes are hard
#
# Accuracy is the share of the queries of a class that are found; precision is the share of those assigned to a class
# that belong to it. The paper's supplement reports the macro-average precision. Here the predictions of all tasks are
# pooled: the precision of each novel class, then the plain mean over the classes.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
shown_snr = 0.1  # SNR of the class accuracies and the confusion matrix
split_seed = 0  # which classes are base, validation and novel
train_seed = 0  # initial weights and training episodes

# %% tags=["hide-input"]
import numpy as np
from IPython.display import Markdown

from cryo_fewshot.figures.charts import confusion_figure, rows_figure
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, class_text, complex_label, papers_size, show_precision
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.tables import class_frame, precision_frame

# %% [markdown]
# ## At the paper's own size

# %% tags=["hide-input"]
def precision_text(cell, entry):
    return f"{precision_frame([cell], [entry])['precision'].item():.3f}"


papers_size(table_1(profile_named("paper")), precision_text)

# %% [markdown]
# ## At a reduced size

# %% tags=["hide-input"]
page = Page(profile)
shots = numbers("n_shot", n_shot, int)
cells = table_1(
    page.settings, snrs=numbers("snrs", snrs, float), shots=shots, split_seed=split_seed, train_seed=train_seed
)
page.protocol(cells)

# %% tags=["hide-input", "nbval-check-output"]
entries = page.runner.run_cells(cells)
table = precision_frame(cells, entries)
show_precision(table)

# %% [markdown]
# ## Accuracy per class
#
# ProtoNet-CE on each of the novel classes. The interval counts the distinct subtomograms of a class, not the tasks.

# %% tags=["hide-input"]
classes = class_frame(cells, entries)
shown = classes[(classes["method"] == "ProtoNet-CE") & (classes["snr"] == shown_snr)]
names, shots_text = shown["class"].map(complex_label), shown["n_shot"].map("{}-shot".format)
rows = shown.assign(row=names, curve=shots_text, panel=f"SNR {shown_snr:g}", value=shown["accuracy"]).set_index("row")
easiest_first = rows.groupby("row")["value"].mean().sort_values(ascending=False).index
rows_figure(rows.loc[easiest_first].reset_index(), "Accuracy", chance=1 / shown["n_way"].iloc[0]);

# %% tags=["hide-input"]
Markdown(class_text(shown))

# %% [markdown]
# ## Which classes are confused
#
# Rows are the true classes, columns the predicted ones, each row in shares of its queries.

# %% tags=["hide-input"]
chosen = next(
    entry
    for cell, entry in zip(cells, entries, strict=True)
    if (cell.method, cell.evaluation.snr, cell.evaluation.n_shot) == ("ProtoNet-CE", shown_snr, max(shots))
)["result"]
confusion_figure(np.array(chosen["confusion"]), list(map(complex_label, chosen["classes"])));
