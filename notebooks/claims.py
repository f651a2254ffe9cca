# %% [markdown]
# # Which claims hold
#
# What the paper says about its simulated data, claim by claim: at the paper's own size, on one split of the classes and
# where they were run on several, and on boxes of 20³ over several splits, where every training was left running until
# it stopped improving.

# %% tags=["parameters"]
profile = "finished"  # smoke or finished
splits = 5  # class splits, from seed 0 on
train = False  # train what is missing; else show what was run

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.charts import claims_figure
from studies.claims import (
    at_papers_size,
    by_size,
    judged,
    over_stored_splits,
    quotes_table,
    summary_frame,
    summary_text,
    validation_frame,
)

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.reproduction.cells import repeated_table_1
from cryo_fewshot.reproduction.display import Page, plain_style, show_claims, show_judged
from cryo_fewshot.reproduction.quoted import CLAIMS
from cryo_fewshot.reproduction.tables import claim_values, keep_table, stored_or_run

page = Page(profile)
every = repeated_table_1(page.settings, splits=range(splits), seeds=[0])
cells, entries = stored_or_run(page.runner, every, train)
at_full_size, full_over_splits = at_papers_size(), over_stored_splits("paper")
values = claim_values(cells, entries, page.runner.store, CLAIMS)
verdicts = judged(values, CLAIMS)
keep_table(at_full_size, "claims_at_papers_size")
keep_table(verdicts, "claims")
keep_table(full_over_splits, "claims_at_papers_size_over_splits")
summary = summary_frame(by_size(at_full_size, full_over_splits, verdicts))
Markdown(summary_text(summary))

# %% tags=["hide-input"]
plain_style(summary).format(na_rep="–")

# %% [markdown]
# *Hold*: the interval of this work lies above the bound that the paper claims, or contains the number that it quotes.
# *Open*: the interval cannot tell, there are fewer than three splits, or a training behind the claim was best in its
# last epoch and so was still improving.
#
# ## At the paper's own size
#
# Boxes of 40³, the text's learning rate, one split of the classes, one training each, 1,000 tasks. The interval is over
# tasks alone; {doc}`table1` has the accuracies and what can be concluded.

# %% tags=["hide-input", "fold"]
show_claims(at_full_size).set_caption("Claims at the paper's own size")

# %% [markdown]
# Where three splits were run at this size, with the interval over the splits: it is wide, as classes differ by more
# than methods do.

# %% tags=["hide-input", "fold"]
show_judged(full_over_splits).set_caption("Claims at the paper's own size, over several splits")

# %% [markdown]
# Accuracy on the validation classes. With 5 labels, training on one SNR stops paying after 300 to 1,100 episodes, and
# ends 500 later. With one label, with all SNRs, and for the baseline, it pays for 1,500 episodes and more, up to the
# end of the schedule.

# %% tags=["hide-input"]
validation = validation_frame()
if len(validation):
    curves_figure(
        validation, x="episodes", curve="trained_on", panel="network", x_label="training episodes", chance=0.2,
        bottom=0.1,
    )  # fmt: skip

# %% [markdown]
# ## Over several splits of the classes
#
# Another split moves every number by points, so the interval is Student's over the splits. Differences between methods
# are taken on the same tasks. "Cannot be told": the interval of an "at least" claim contains the paper's number.

# %% tags=["hide-input"]
page.protocol(cells, before=f"Class splits with seeds 0 to {splits - 1}, as far as they were run:")

# %% tags=["hide-input", "fold", "nbval-check-output"]
show_judged(verdicts).set_caption("Claims over several splits")

# %% tags=["hide-input", "fold"]
differences = [number for number in verdicts["number"] if CLAIMS[number].second]
claims_figure(
    values[values["number"].isin(differences)],
    verdicts[verdicts["number"].isin(differences)],
    [CLAIMS[number].paper for number in differences],
);

# %% [markdown]
# ## What the paper says
#
# Each claim and the sentence that it was read from. The paper never says that mix training pays at SNR 0.1, nor in
# 1-shot at SNR 0.05; those rows rest on its general sentence alone, so a "does not hold" there contradicts no number.

# %% tags=["hide-input", "fold"]
plain_style(quotes_table(CLAIMS)).hide(axis="index").set_caption("The paper's sentences")
