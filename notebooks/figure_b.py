# %% [markdown]
# # Figure B: what the baseline misses
#
# The paper's supplement shows subtomograms that ProtoNet-CE recognises and the finetuned baseline does not. Here are
# the test subtomograms that ProtoNet-CE alone got right in the largest share of the tasks in which they were a query.
# There are also subtomograms that only the baseline recognises.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snr = 0.1  # ratio of variances, signal to noise
n_shot = 1  # labelled subtomograms per class
n_examples = 4  # subtomograms to show

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from studies.views import Disagreement, sample_volume

from cryo_fewshot.figures.volumes import slices_figure
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, complex_label, complex_name, plain_style

page = Page(profile)
cells = table_1(page.settings, snrs=[snr], shots=[n_shot], methods=["ProtoNet-CE", "baseline"])
spec = Disagreement(right=cells[0].evaluation, wrong=cells[1].evaluation)
result = page.runner(spec)["result"]
page.protocol(cells)

# %% tags=["hide-input"]
n_queries = np.maximum(result["n_queries"], 1)
share = np.array(result["only_right"]) / n_queries
ranked = np.dstack(np.unravel_index(np.argsort(-share, axis=None, kind="stable"), share.shape))[0][:n_examples]
names = [result["classes"][label] for label, _ in ranked]
titles = [f"{complex_label(result['classes'][label], 14)}\n{share[label, number]:.0%}" for label, number in ranked]
slices_figure(
    [sample_volume(spec.right, name, number) for name, (_, number) in zip(names, ranked, strict=True)],
    titles,
    page.settings.data.microscope.final_voxel_size_nm,
);

# %% [markdown]
# Slices of those subtomograms; beside each the class and the share of its tasks in which ProtoNet-CE alone was right.
# The same shares over all test subtomograms:

# %% tags=["hide-input", "nbval-check-output"]
counts = {"ProtoNet-CE alone": result["only_right"], "baseline alone": result["only_wrong"], "queries": n_queries}
table = pd.DataFrame({name: np.sum(of, axis=1) for name, of in counts.items()}, map(complex_name, result["classes"]))
table.loc["all"] = table.sum()
queries = table.pop("queries")
shares = table.div(queries, axis=0)
plain_style(shares.rename_axis("Class").reset_index()).format(precision=3).hide(axis="index")

# %% [markdown]
# Shares of all queries of a class, over all tasks.
