# %% [markdown]
# # More classes per training episode, and time
#
# ## Remark 2: train on more classes than are tested
#
# The paper trains on episodes of as many classes as the test has, and remarks that more may help. Here ProtoNet3D is
# trained on episodes of 5, 8 and 10 classes and always tested on 5.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snrs = "0.1"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
ways = "5,8,10"  # classes per training episode
seeds = 3  # training seeds, from 0 on

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.charts import curves_figure
from studies.speed import speed_frame
from studies.transfer import study_line, training_ways, variations_frame

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.display import plain_style, provenance_line
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.reproduction.store import results_folder
from cryo_fewshot.reproduction.tables import mean_over_seeds

use_style()
settings = profile_named(profile)
variations = training_ways(
    settings,
    ways=numbers("ways", ways, int),
    snrs=numbers("snrs", snrs, float),
    shots=numbers("n_shot", n_shot, int),
    seeds=range(seeds),
)
Markdown(f"**Protocol.** {study_line(variations, settings)}")

# %% tags=["hide-input"]
entries = open_runner(profile).run(variation.evaluation for variation in variations)
frame = mean_over_seeds(variations_frame(variations, entries), "trained_on", "n_shot", "snr")
shown = frame.assign(shown=[f"{row.accuracy:.3f} ± {row.error:.3f}" for row in frame.itertuples()])
shown = shown.pivot(index="trained_on", columns=["n_shot", "snr"], values="shown").loc[frame["trained_on"].unique()]
shown.columns = [f"{shot}-shot, SNR {snr:g}" for shot, snr in shown.columns]
plain_style(shown.rename_axis(None))

# %% [markdown]
# Mean over training seeds and its standard error. All trainings have the same number of episodes, so more classes also
# mean more volumes seen, and as much more time.

# %% tags=["hide-input"]
curves_figure(
    frame.assign(ways=frame["trained_on"].str.removesuffix("-way").astype(int), ci95=1.96 * frame["error"],
                 curve=[f"SNR {snr:g}" for snr in frame["snr"]]),
    x="ways", curve="curve", panel="n_shot", x_label="classes per training episode", panel_label="5-way {}-shot",
    chance=1 / 5, top=1.0,
);  # fmt: skip

# %% tags=["hide-input"]
by_way = frame.set_index(["n_shot", "snr", "trained_on"])[["accuracy", "error"]]
least, most = frame["trained_on"].iloc[0], frame["trained_on"].iloc[-1]
sentences = []
for n, snr in dict.fromkeys(zip(frame["n_shot"], frame["snr"], strict=True)):
    gain = by_way.loc[(n, snr, most), "accuracy"] - by_way.loc[(n, snr, least), "accuracy"]
    error = (by_way.loc[(n, snr, most), "error"] ** 2 + by_way.loc[(n, snr, least), "error"] ** 2) ** 0.5
    told = "more than two standard errors" if abs(gain) > 2 * error else "within two standard errors of nothing"
    sentences.append(f"{n}-shot, SNR {snr:g}: {most} training changes accuracy by {gain:+.3f} ± {error:.3f}, {told}.")
Markdown("  \n".join(sentences))

# %% [markdown]
# ## Remark 3: time per subtomogram
#
# The paper states about 0.2 s for the prediction of one 40³ subtomogram on a CPU. {doc}`speed` has more than this:

# %% tags=["hide-input"]
found = sorted(results_folder("bench").glob("*.json"))
speed = speed_frame(found[0]).set_index("path") if found else None
Markdown(
    "Embedding one subtomogram at a time, on two cores in bf16, takes "
    f"{speed.loc['embedding one at a time, bf16', 'package_ms']:.1f} ms here, and the decision in an episode of "
    f"ProtoNet-CE {speed.loc['evaluation, ProtoNet-CE', 'package_ms']:.2f} ms for all its queries."
    if found
    else "**Not measured.** `make bench` writes what this section shows."
)

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
print(frame.round(3).to_csv(index=False))
