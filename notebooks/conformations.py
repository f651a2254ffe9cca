# %% [markdown]
# # Conformations of one complex
#
# Can a network tell two shapes of the same molecule apart? One half of a complex is bent against the other about a
# hinge in its middle. Each network gets five examples of the straight and of the bent shape and takes the nearest
# prototype; the oracle of {doc}`bounds` shows what the data allow.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
complexes = "2CG9,1QVR,6QZP"  # keys of the library
angles = "5,10,20,30,45,60"  # degrees
snrs = "0.1,0.03"  # ratios of variances, signal to noise
n_shot = 5  # labelled subtomograms per conformation
seeds = 3  # training seeds of ProtoNet3D (mix), from 0 on
n_per_class = 25  # subtomograms of each conformation that the oracle looks at

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.conformations import bent
from studies.open_world import role
from studies.open_world_tables import conformations_frame
from studies.pretrained import Pretrained
from studies.transfer import conformations, study_protocol

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.figures.volumes import gallery_figure
from cryo_fewshot.reproduction.display import Page, complex_label
from cryo_fewshot.reproduction.profiles import numbers
from cryo_fewshot.reproduction.tables import keep_table
from cryo_fewshot.simulation.density import mass_density, protein_level
from cryo_fewshot.simulation.structures import load_complex
from cryo_fewshot.weights import load_encoder

page, pretrained, keys = Page(profile), Pretrained(*load_encoder()), complexes.split(",")
variations = conformations(
    page.settings,
    complexes=keys,
    angles=numbers("angles", angles, float),
    snrs=numbers("snrs", snrs, float),
    n_shot=n_shot,
    seeds=range(seeds),
)
study_protocol(page, variations)

# %% tags=["hide-input"]
forms = [(key, angle, *bent(key, angle)) for key in keys for angle in (0, 20, 60)]
densities = [mass_density(positions, masses, box=40, voxel_size_nm=0.8) for _, _, positions, masses in forms]
gallery_figure(
    densities,
    [protein_level(volume, form[3].sum(), 0.8) for volume, form in zip(densities, forms, strict=True)],
    [f"{complex_label(key, 24)}\n{angle}°" for key, angle, *_ in forms],
    0.8,
    n_columns=3,
);
# %% [markdown]
# ## Accuracy against the angle
#
# Above each panel stands how the complex took part in making the pretrained encoder. ProtoNet3D (mix) was trained on
# other complexes.

# %% tags=["hide-input"]
frame = conformations_frame(page.runner, pretrained, variations, n_per_class)
keep_table(frame, "conformations")
frame["curve"] = [f"{row.method}, SNR {row.snr:g}" for row in frame.itertuples()]
frame["panel"] = [f"{load_complex(key).name}\n{role(key, pretrained.card)}" for key in frame["complex"]]
lowest = frame["snr"].min()
curves_figure(
    frame, x="angle", curve="curve", panel="panel", x_label="angle (degrees)", panel_label="{}", chance=1 / 2,
    dashed=list(frame.loc[frame["snr"] == lowest, "curve"].unique()), bottom=0.4,
);  # fmt: skip

# %% tags=["hide-input"]
clearest = frame[frame["snr"] == frame["snr"].max()].groupby(["method", "complex"], sort=False)["accuracy"].max()
told = (clearest >= 0.75).groupby(level="method", sort=False).sum()
Markdown(
    f"At SNR {frame['snr'].max():g} an accuracy of 75 % is reached, at some angle, by "
    + ", ".join(f"{method} for {n} of {len(keys)} complexes" for method, n in told.items())
    + "; guessing gives 50 %."
)

# %% [markdown]
# ProtoNet3D (mix): mean over training seeds with the 95 % interval of that mean. The other intervals are over tasks for
# the pretrained encoder, over subtomograms for the oracle.

# %% tags=["nbval-check-output", "hide-cell"]
print(frame[["complex", "method", "snr", "angle", "accuracy"]].round(3).to_csv(index=False))
