# %% [markdown]
# # Which claims hold
#
# Table 1 of the paper comes from one split of the classes and one training. With eight test classes, another split or
# another seed moves every number by points. Here Table 1 is run on five splits with three training seeds each, all at
# the reduced size below, and every claim is judged over the splits.
#
# Read the verdicts with that size in mind: the trainings are short, which favours what learns fast. {doc}`table1` has
# longer trainings on one split; where the two disagree, the length of the training decides, and the paper's own is
# longer still.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
splits = 5  # class splits, from seed 0 on
seeds = 3  # training seeds per split, from 0 on

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.charts import claims_figure
from studies.claims import claim_sentences, claim_values, judged, seed_and_split_spread

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.cells import repeated_table_1
from cryo_fewshot.reproduction.display import protocol_line, provenance_line, show_judged, show_spread
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import CLAIMS_IN_WORDS, TABLE_1_CLAIMS
from cryo_fewshot.reproduction.runner import open_runner

use_style()
settings = profile_named(profile)
cells = repeated_table_1(settings, splits=range(splits), seeds=range(seeds))
Markdown(
    f"**Protocol.** {splits} class splits (seeds 0 to {splits - 1}) with {seeds} training seeds each, as in: "
    f"{protocol_line(cells, settings)}"
)

# %% tags=["hide-input"]
entries = open_runner(profile).run_cells(cells)
claims = [*TABLE_1_CLAIMS, *CLAIMS_IN_WORDS]
values = claim_values(cells, entries, claims)
verdicts = judged(values, claims)
show_judged(verdicts)

# %% [markdown]
# Mean over all runs; the interval is Student's over the class splits, each the mean of its seeds. Differences between
# methods are taken on the same tasks of the same run. "Cannot be told" means that the interval holds the paper's number
# of a claim of the kind "at least".
#
# ## One sentence per claim

# %% tags=["hide-input"]
Markdown(claim_sentences(verdicts))

# %% [markdown]
# ## Every run

# %% tags=["hide-input"]
differences = [number for number in verdicts["number"] if claims[number].second]
claims_figure(
    values[values["number"].isin(differences)],
    verdicts[verdicts["number"].isin(differences)],
    [claims[number].paper for number in differences],
);
# %% [markdown]
# ## What a seed changes, and what a split changes
#
# Standard deviations of the accuracy. A difference between two single trainings that is smaller than these says nothing
# by itself.

# %% tags=["hide-input"]
spread = seed_and_split_spread(cells, entries)
show_spread(spread)

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
for row in verdicts.itertuples():
    print(f"{row.claim}, {row.n_shot}-shot: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] {row.verdict}")
