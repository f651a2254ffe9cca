# %% [markdown]
# # Which claims hold
#
# Claim by claim: what the paper says about its simulated data, at the paper's own size on one split of the classes, and
# on boxes of 20³ over several splits, where every training was left running until it stopped improving.
#
# A claim that rests on a training whose best epoch was its last gets no verdict: it says "still improving".

# %% tags=["parameters"]
profile = "finished"  # smoke or finished
splits = 5  # class splits, from seed 0 on
train = False  # train what is missing; else show what was run

# %% tags=["hide-input"]
from studies.charts import claims_figure
from studies.claims import at_papers_size, claim_values, conclusions, judged, quotes_table

from cryo_fewshot.reproduction.cells import repeated_table_1
from cryo_fewshot.reproduction.display import Page, plain_style, show_claims, show_judged
from cryo_fewshot.reproduction.quoted import CLAIMS_IN_WORDS, TABLE_1_CLAIMS
from cryo_fewshot.reproduction.tables import keep_table, stored_or_run

page = Page(profile)
claims = [*TABLE_1_CLAIMS, *CLAIMS_IN_WORDS]
conclusions(claims)

# %% [markdown]
# ## At the paper's own size
#
# Boxes of 40³, the text's learning rate, one split of the classes, one training each, 1,000 tasks. The interval is over
# tasks alone; {doc}`table1` has the accuracies.

# %% tags=["hide-input"]
at_full_size = at_papers_size(claims)
keep_table(at_full_size, "claims_at_papers_size")
show_claims(at_full_size)

# %% [markdown]
# ## Over several splits of the classes
#
# Another split moves every number by points, so the interval is Student's over the splits. Differences between methods
# are taken on the same tasks. "Cannot be told" means that the interval of an "at least" claim contains the paper's
# number.

# %% tags=["hide-input"]
every = repeated_table_1(page.settings, splits=range(splits), seeds=[0])
cells, entries = stored_or_run(page.runner, every, train)
page.protocol(cells, before=f"Class splits with seeds 0 to {splits - 1}, those that were run, as in:")

# %% tags=["hide-input"]
values = claim_values(cells, entries, claims, page.runner.store)
verdicts = judged(values, claims)
keep_table(verdicts, "claims")
show_judged(verdicts)

# %% [markdown]
# Every run of the claims that are differences between two methods:

# %% tags=["hide-input"]
differences = [number for number in verdicts["number"] if claims[number].second]
claims_figure(
    values[values["number"].isin(differences)],
    verdicts[verdicts["number"].isin(differences)],
    [claims[number].paper for number in differences],
);
# %% [markdown]
# ## What the paper says
#
# Each claim and the sentence that it was read out of. The paper never says that mix training pays at SNR 0.1, nor in
# 1-shot at SNR 0.05; those rows rest on its general sentence alone, so a "does not hold" there contradicts no number.

# %% tags=["hide-input"]
plain_style(quotes_table(claims)).hide(axis="index")

# %% tags=["hide-input"]
page.provenance(entries)

# %% tags=["nbval-check-output", "hide-cell"]
for row in verdicts.itertuples():
    print(f"{row.claim}, {row.n_shot}-shot: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] {row.verdict}")
