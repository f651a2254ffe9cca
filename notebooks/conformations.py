# %% [markdown]
# # Conformations of one complex
#
# Can a few labelled examples tell two shapes of the same molecule apart? One half of a complex is bent against the
# other half, about a hinge in its middle, and ProtoNet3D (mix), trained on other complexes, gets five examples of the
# straight and of the bent one. The oracle of {doc}`ceiling` says what the volumes allow.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
complexes = "2CG9,1QVR,6QZP"  # keys of the library
angles = "5,10,20,30,45,60"  # degrees
snrs = "0.1,0.03"  # ratios of variances, signal to noise
n_shot = 5  # labelled subtomograms per conformation
seeds = 3  # training seeds, from 0 on
n_per_class = 25  # subtomograms of each conformation that the oracle looks at

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from studies.bounds import Oracle, oracle_accuracy
from studies.charts import curves_figure
from studies.transfer import conformations, study_line, variations_frame

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import gallery_figure
from cryo_fewshot.reproduction.display import provenance_line
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.reproduction.tables import mean_over_seeds
from cryo_fewshot.simulation.conformations import bent
from cryo_fewshot.simulation.density import mass_density, protein_level
from cryo_fewshot.simulation.structures import load_complex

use_style()
settings = profile_named(profile)
runner = open_runner(profile)
variations = conformations(
    settings,
    complexes=complexes.split(","),
    angles=numbers("angles", angles, float),
    snrs=numbers("snrs", snrs, float),
    n_shot=n_shot,
    seeds=range(seeds),
)
Markdown(f"**Protocol.** {study_line(variations, settings)}")

# %% tags=["hide-input"]
keys = complexes.split(",")
forms = [(key, angle, *bent(key, angle)) for key in keys for angle in (0, 20, 60)]
densities = [mass_density(positions, masses, box=40, voxel_size_nm=0.8) for _, _, positions, masses in forms]
gallery_figure(
    densities,
    [protein_level(volume, form[3].sum(), 0.8) for volume, form in zip(densities, forms, strict=True)],
    [f"{key}, {angle}°" for key, angle, *_ in forms],
    0.8,
    n_columns=3,
);
# %% [markdown]
# ## Accuracy against the angle

# %% tags=["hide-input"]
entries = runner.run(variation.evaluation for variation in variations)
frame = variations_frame(variations, entries)
frame["complex"] = [variation.evaluation.novel_data.class_set for variation in variations]
frame["angle"] = [variation.evaluation.novel_data.angles_degrees[1] for variation in variations]
network = mean_over_seeds(frame, "complex", "angle", "snr")
network = network.assign(ci95=1.96 * network.pop("error"), curve=network["complex"])
bounds = []
for variation in variations:
    evaluation = variation.evaluation
    if evaluation.encoder.seed == 0:
        data = evaluation.novel_data
        entries.append(runner(Oracle(evaluation=evaluation, n_per_class=n_per_class)))
        accuracy, interval = oracle_accuracy(entries[-1]["result"]["scores"], 2)
        bounds.append((data.class_set, data.angles_degrees[1], evaluation.snr, accuracy, interval))
bounds = pd.DataFrame(bounds, columns=["complex", "angle", "snr", "accuracy", "ci95"])
bounds["curve"] = bounds["complex"] + ", oracle"
curves_figure(
    pd.concat([network, bounds]), x="angle", curve="curve", panel="snr", x_label="angle (degrees)",
    panel_label="SNR {:g}", chance=1 / 2, dashed=list(bounds["curve"].unique()),
);  # fmt: skip

# %% tags=["hide-input"]
reached = network[network["accuracy"] >= 0.75].groupby(["snr", "complex"])["angle"].min()
sentences = [
    f"At SNR {snr:g}, {load_complex(key).name} is told from its bent form with 75 % accuracy "
    + (f"from {reached[snr, key]:g}° on." if (snr, key) in reached else "at no angle tried.")
    for snr in network["snr"].unique()
    for key in network["complex"].unique()
]
Markdown("  \n".join(sentences))

# %% [markdown]
# Means over training seeds with the 95 % interval of that mean; the oracle's interval is over subtomograms.

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
print(pd.concat([network, bounds])[["curve", "snr", "angle", "accuracy"]].round(3).to_csv(index=False))
