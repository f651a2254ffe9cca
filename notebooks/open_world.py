# %% [markdown]
# # Open world
#
# A table of the paper asks one question: which of five classes is it? Real work asks more. Is it any of them? What if
# there are twenty? What do more labels buy? Can the probability be believed? Here the encoder that comes with the
# package ({doc}`encoder_card`) is asked all of these.
#
# Unless said otherwise, the classes are the eight test classes of {doc}`table1`, which the encoder met neither in
# training nor in calibration (though its recipe was chosen by looking at them), and the tasks are those of
# {doc}`table1`. Wherever two methods are compared, both answer the same tasks, and the difference is taken task by
# task. The encoder gives each particle a point; two ways of deciding are compared:
#
# - **Nearest prototype**: the class whose labelled examples have the nearest mean.
# - **Two-covariance**: what `cryo-fewshot classify` does. It knows, from other classes, how far the particles of one
#   class scatter and how far classes lie apart, so it also knows how likely a class is that was never labelled.
#
# Beside them stands the paper's **ProtoNet3D (mix)**, trained as the profile below says, on 5-shot tasks of ten
# classes; it is asked with fewer and with more labels too. Its training was far shorter than that of the encoder that
# ships.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
many_shots = "1,2,3,5,10,20,50"  # of the curve against the number of labels
stand_in_shots = "5,3,1"  # of the stand-ins of real data sets
samples = "100,500"  # per class, that the supervised networks were trained on
n_per_class = 25  # subtomograms of each class that the oracle looks at
complexes = "2CG9,1QVR,6QZP"  # keys of the library, for the conformations
angles = "5,10,20,30,45,60"  # degrees
conformation_snrs = "0.1,0.03"  # ratios of variances
seeds = 3  # training seeds of ProtoNet3D (mix) in the conformations, from 0 on

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies import open_world_tables as tables
from studies.charts import curves_figure, reliability_figure
from studies.open_world import OpenWorld, paper_like
from studies.transfer import conformations

from cryo_fewshot.figures.charts import accuracy_by_class
from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.cells import Cell
from cryo_fewshot.reproduction.display import protocol_line, provenance_line
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.simulation.structures import load_complex
from cryo_fewshot.weights import load_encoder

use_style()
settings = profile_named(profile)
world = OpenWorld(open_runner(profile), *load_encoder())
chosen = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
cells = [Cell(tables.PAPER_LIKE, paper_like(settings, chosen["snrs"][0], shot)) for shot in chosen["shots"]]
Markdown(f"**Protocol.** {protocol_line(cells, settings)}")

# %% [markdown]
# ## Is it any of them?
#
# Each task has five of the test classes with labels. Its queries are joined by strangers: particles of the three test
# classes that the task leaves out, or boxes without a macromolecule. A score should be higher for members than for
# strangers. The table has the area under the ROC curve: how often a member scores above a stranger, 0.5 for guessing,
# 1 for never wrong. *Distance* is that to the nearest prototype; *likelihood ratio* is the tool's score, how much
# likelier a particle is under the labelled classes than under a class never seen. *Gain* is the tool's score minus
# another one, task by task.

# %% tags=["hide-input"]
rejection, entries = tables.rejection_frame(world, settings, **chosen)
tables.show_with_differences(rejection, "strangers", "auroc")

# %% tags=["hide-input"]
Markdown(tables.rejection_text(rejection, world, settings))

# %% [markdown]
# ± is the 95 % half-width over tasks, here and below: it says how well these classes are measured, not how other
# classes would do.
#
# ## More classes
#
# Tasks of more and more classes. Beyond the eight test classes there are only classes that took part in the making of
# the encoder: the calibration classes were not trained on, but they chose the epoch and fitted the two-covariance
# model, and most of the paper's 22 complexes were trained on or calibrated on. Those rows are no test of classes never
# met; they show how accuracy falls as a task grows. ProtoNet3D (mix) is left out where its own training classes take
# part. *Gain* is that of the tool's classifier, two-covariance.

# %% tags=["hide-input"]
ways, found = tables.ways_frame(world, settings, **chosen)
entries += found
tables.show_with_differences(ways, "tasks", "accuracy")

# %% tags=["hide-input"]
Markdown(tables.ways_text(ways))

# %% [markdown]
# ## More labels
#
# 5-way tasks again, with more and more labelled examples of each class. The dashed lines do not depend on the labels:
# a supervised network that was trained on the very test classes, and the oracle, which knows their structures (both
# from {doc}`ceiling`).

# %% tags=["hide-input"]
shots, found = tables.shots_frame(
    world, settings, snrs=chosen["snrs"], shots=numbers("many_shots", many_shots, int),
    samples=numbers("samples", samples, int), n_per_class=n_per_class,
)  # fmt: skip
entries += found
bounds = [name for name in shots["method"].unique() if name.startswith(("supervised", "oracle"))]
curves_figure(
    shots, x="n_shot", curve="method", panel="snr", x_label="labels per class", panel_label="SNR {:g}", chance=1 / 5,
    dashed=bounds, log_x=True, bottom=0.4,
);  # fmt: skip

# %% tags=["hide-input"]
Markdown(tables.shots_text(shots))

# %% [markdown]
# ## Can the probability be believed?
#
# The tool gives every answer a probability. Of the answers that got 80 %, four in five should be right: points on the
# dotted line. Below it the tool is too sure, above it not sure enough.

# %% tags=["hide-input"]
reliability, found = tables.reliability_frame(world, settings, **chosen)
entries += found
reliability_figure(reliability);

# %% tags=["hide-input"]
Markdown(tables.reliability_text(reliability))

# %% [markdown]
# The calibration was fitted on other classes ({doc}`encoder_card`); where those are harder to tell apart than the
# classes at hand, the tool is right more often than it says. Bars are 95 % intervals over tasks.
#
# ## Stand-ins of the real sets, all classes at once
#
# The simulated stand-ins of {doc}`table4`, brought to the encoder's box and voxel size as the tool does with a user's
# files. Nothing was trained for them. The last column is of **another data set**: real particles, another network,
# trained on simulated volumes as this one; its ± is the spread over ten seeds. It is there for scale: the two columns
# cannot be compared.

# %% tags=["hide-input"]
stand_ins, (classes, found) = tables.surrogate_frames(
    world, settings, shots=numbers("stand_in_shots", stand_in_shots, int)
)
entries += found
tables.show_surrogates_at_once(stand_ins)

# %% [markdown]
# The encoder was trained on some of these structures. *Relative* is a class of the same family, *calibrated on* one
# that chose the epoch and fitted the two-covariance model. Accuracy of each class of the set of Noble et al., then of
# Guo et al., by the two-covariance classifier:

# %% tags=["hide-input"]
classes["label"] = [f"{row.what}\n({row.met})" for row in classes.itertuples()]
shown = classes[classes["method"] == tables.PRETRAINED["two-covariance"]].drop(columns="class")
for name in ("noble", "guo"):
    accuracy_by_class(shown[shown["set"] == name].rename(columns={"label": "class"}));

# %% tags=["hide-input"]
trained = world.card["spec"]["acquisitions"]["snrs"]
guo_snr = stand_ins.set_index("set")["snr"]["guo"].iloc[0]
Markdown(
    f"{tables.surrogate_text(classes)}\n\nThe SNR of Guo et al., {guo_snr:g}, lies "
    + ("below" if guo_snr < min(trained) else "within")
    + f" what the encoder was trained on ({min(trained):g} to {max(trained):g})."
)

# %% [markdown]
# A 26S proteasome with two caps is longer than the encoder's box of 40 nm: its ends are cut, and with them a part of
# what tells one cap from two. No membrane was ever simulated for the encoder.
#
# ## Conformations
#
# The bent complexes of {doc}`conformations`, five labels for each of two shapes, by nearest prototype in both spaces.
# Above each panel, how the complex took part in the making of the encoder that ships.

# %% tags=["hide-input"]
variations = conformations(
    settings,
    complexes=complexes.split(","),
    angles=numbers("angles", angles, float),
    snrs=numbers("conformation_snrs", conformation_snrs, float),
    seeds=range(seeds),
)
bent, found = tables.conformations_frame(world, variations, n_per_class)
entries += found
bent["curve"] = [f"{row.method}, SNR {row.snr:g}" for row in bent.itertuples()]
bent["panel"] = [f"{load_complex(row.complex).name}\n{row.met}" for row in bent.itertuples()]
lowest = bent["snr"].min()
curves_figure(
    bent, x="angle", curve="curve", panel="panel", x_label="angle (degrees)", panel_label="{}", chance=1 / 2,
    dashed=list(bent.loc[bent["snr"] == lowest, "curve"].unique()), bottom=0.4,
);  # fmt: skip

# %% tags=["hide-input"]
Markdown(tables.conformation_text(bent))

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
print(rejection[["strangers", "method", "n_shot", "snr", "auroc"]].round(3).to_csv(index=False))
print(ways[["n_way", "method", "n_shot", "snr", "accuracy"]].round(3).to_csv(index=False))
print(stand_ins[["set", "n_shot", "method", "accuracy"]].round(3).to_csv(index=False))
