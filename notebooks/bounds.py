# %% [markdown]
# # Bounds: how hard the data are
#
# At every SNR of the paper the volumes hold the answer: an observer that knows the structures is hardly ever wrong.
# What the few-shot networks miss is therefore not for want of signal. Two references on the same simulated
# subtomograms:
#
# - **The oracle** knows the true density of every class, the defocus, the SNR and the spectrum of the noise, but not
#   the pose. It searches all rotations and shifts of each class (a matched filter) and chooses the class by likelihood.
#   Hardly anything can do better.
# - **A supervised network** of the same architecture is trained on other samples of the test classes themselves. It is
#   no upper bound: under the profile below it gets 150 training steps, and the pretrained encoder beats it.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
oracle_snrs = "0.1,0.05,0.03,0.01,0.003,0.001"  # ratios of variances, signal to noise
snrs = "0.1,0.05,0.03"  # of the networks
samples = "100,500"  # per class, that the supervised network is trained on
n_per_class = 25  # subtomograms of each test class that the oracle looks at

# %% tags=["hide-input"]
import pandas as pd
from studies.bounds import bounds_frame

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, plain_style
from cryo_fewshot.reproduction.profiles import numbers
from cryo_fewshot.reproduction.tables import keep_table, plus_minus
from cryo_fewshot.weights import load_encoder

page = Page(profile)
cells = table_1(page.settings, snrs=numbers("snrs", snrs, float), methods=["baseline"])
page.protocol(cells)

# %% tags=["hide-input", "nbval-check-output"]
bounds = bounds_frame(
    page.runner,
    page.settings,
    snrs=numbers("snrs", snrs, float),
    oracle_snrs=numbers("oracle_snrs", oracle_snrs, float),
    samples=numbers("samples", samples, int),
    n_per_class=n_per_class,
)
keep_table(bounds, "bounds")
if profile != "smoke":  # its card is of the same subtomograms and tasks, but not of those of the tests
    card = pd.DataFrame(load_encoder()[1]["expected_accuracy"])
    card["method"] = [f"pretrained encoder, {n_shot}-shot" for n_shot in card["n_shot"]]
    bounds = pd.concat([bounds, card[bounds.columns]], ignore_index=True)
shown = bounds.assign(shown=list(map(plus_minus, bounds["accuracy"], bounds["ci95"])))
shown = shown.pivot(index="method", columns="snr", values="shown").rename_axis(None).rename_axis(None, axis=1)
shown = shown.loc[bounds["method"].unique()[::-1], ::-1]
plain_style(shown.fillna("not run").rename(columns="SNR {:g}".format))

# %% tags=["hide-input"]
n_way = cells[0].evaluation.n_way
curves_figure(
    bounds.iloc[::-1].assign(panel=f"{n_way}-way"), x="snr", curve="method", panel="panel", x_label="SNR",
    panel_label="{}", chance=1 / n_way, dashed=["oracle"], log_x=True,
);  # fmt: skip

# %% [markdown]
# The few-shot networks here had the short trainings of this profile, so they do worse than those of {doc}`table1`,
# which shows a profile with longer trainings.
#
# The oracle's accuracy is the mean over all tasks that can be made of the test classes, on the first subtomograms of
# each; its interval is over subtomograms. The supervised network scores all test classes with a linear layer, and those
# of a task compete; it ignores the support. The paper mentions a supervised network with 500 samples per class, 22-way:
# 0.77 at SNR 0.05 and 0.66 at SNR 0.03. That is another task (22 classes instead of five) on other data. The pretrained
# encoder ({doc}`encoder_card`) was trained on none of these classes, but on more samples, simulated on the fly.
