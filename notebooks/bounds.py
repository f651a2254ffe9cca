# %% [markdown]
# # How hard the data are
#
# An accuracy says little without knowing what could be reached. Two bounds on the same simulated subtomograms:
#
# - **The oracle** knows the true density of every class, the defocus, the SNR and the spectrum of the noise. Only the
#   pose is kept from it: it searches all rotations and shifts of each class (a matched filter) and chooses the class by
#   likelihood. Nothing can do better by much.
# - **A supervised network** of the same architecture is trained on other samples of the very test classes. It is what
#   labels without limit would buy.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
oracle_snrs = "0.1,0.05,0.03,0.01,0.003,0.001"  # ratios of variances, signal to noise
snrs = "0.1,0.05,0.03"  # of the networks
samples = "100,500"  # per class, that the supervised network is trained on
n_per_class = 25  # subtomograms of each test class that the oracle looks at

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from studies.bounds import bounds_frame
from studies.charts import curves_figure

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import plain_style, protocol_line, provenance_line
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.weights import load_encoder

use_style()
settings = profile_named(profile)
cells = table_1(settings, snrs=numbers("snrs", snrs, float), methods=["baseline"])
Markdown(f"**Protocol.** {protocol_line(cells, settings)}")

# %% tags=["hide-input"]
bounds, entries = bounds_frame(
    open_runner(profile),
    settings,
    snrs=numbers("snrs", snrs, float),
    oracle_snrs=numbers("oracle_snrs", oracle_snrs, float),
    samples=numbers("samples", samples, int),
    n_per_class=n_per_class,
)
if profile != "smoke":  # its card is of the same subtomograms and tasks, but not of those of the tests
    card = pd.DataFrame(load_encoder()[1]["expected_accuracy"])
    card["method"] = [f"encoder that ships, {n_shot}-shot" for n_shot in card["n_shot"]]
    bounds = pd.concat([bounds, card[bounds.columns]], ignore_index=True)
shown = bounds.assign(shown=[f"{row.accuracy:.3f} ± {row.ci95:.3f}" for row in bounds.itertuples()])
shown = shown.pivot(index="method", columns="snr", values="shown").fillna("not run").rename_axis(None)
shown = shown.loc[bounds["method"].unique()[::-1], ::-1].rename(columns="SNR {:g}".format)
plain_style(shown.rename_axis(None, axis=1))

# %% tags=["hide-input"]
n_way = cells[0].evaluation.n_way
bounds["panel"] = f"{n_way}-way"
curves_figure(
    bounds.iloc[::-1], x="snr", curve="method", panel="panel", x_label="SNR", panel_label="{}", chance=1 / n_way,
    dashed=["oracle"], log_x=True,
);  # fmt: skip

# %% tags=["hide-input"]
at = bounds.set_index(["snr", "method"])["accuracy"].unstack()
at = at.loc[numbers("snrs", snrs, float)]
best = at.filter(regex="ProtoNet|baseline").max(axis=1)
words = (
    f"At the SNRs of the paper the oracle is right in at least {at['oracle'].min():.1%} of the cases: the volumes hold "
    "the answer, and what the best few-shot network misses ("
    + ", ".join(f"{1 - accuracy:.0%} at SNR {snr:g}" for snr, accuracy in best.items())
    + ") is missed by the network, not by the microscope."
)
if "encoder that ships, 5-shot" in at:
    closed = (at["encoder that ships, 5-shot"] - best) / (at["oracle"] - best)
    words += f" The encoder that ships closes {closed.min():.0%} to {closed.max():.0%} of that gap with five examples."
Markdown(words)

# %% [markdown]
# The oracle's accuracy is the mean over all tasks that can be made of the test classes, on the first subtomograms of
# each; its interval is over subtomograms. The supervised network scores all test classes with a linear layer, and those
# of a task compete; it does not look at the support. The paper mentions a supervised network with 500 samples per
# class, 22-way: 0.77 at SNR 0.05 and 0.66 at SNR 0.03. That is another task (22 classes instead of five) on other data.
# {doc}`encoder_card` tells of the encoder that ships: it met none of these classes, but more and fresher data.

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
print(bounds.drop(columns="panel").round(3).to_csv(index=False))
