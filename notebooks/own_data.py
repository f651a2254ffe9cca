# %% [markdown]
# # Your own data
#
# You have picked particles and labelled a handful of each of a few structures. One command gives every other particle a
# class and a probability, or rejects it:
#
# ```bash
# cryo-fewshot classify --support labelled.star --query particles.star --out run1/
# ```
#
# **Support** is what you have labelled: a STAR file with a class column (`--label-column`), a folder with one folder of
# MRC files per class, or an npz with `volumes` and `labels`. **Query** is everything that is to be classified: particle
# files, or a tomogram with `--query-coordinates`; all kinds of files are listed below. Voxel size, box and contrast are
# read, checked and printed; `--voxel-size-nm`, `--contrast` and `--mirror` overrule them. The network is the pretrained
# one ({doc}`encoder_card`); its weights are not trained on your particles.
#
# Below, the command runs on simulated particles in the files of a RELION project, so the right answer is known. The
# encoder was trained on none of these classes.

# %% tags=["parameters"]
classes = "3KUY,1OEL,3M6A,1QVR,3UWX"  # with labelled particles, keys of the library
unknown_classes = "1HTQ,4NMN,1E0T"  # among the particles, but not labelled
snr = 0.1  # ratio of variances, signal to noise
n_labelled = 5  # per class
n_particles = 60  # per class
n_averaged = 40  # particles per class average
false_accept_rate = 0.05  # at most this share of the particles of unknown classes is to be accepted
store = "extended"  # folder of results

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from studies.averages import unpacked
from studies.demonstration import Demonstration
from studies.pretrained import Pretrained

from cryo_fewshot.figures.volumes import slices_figure
from cryo_fewshot.reproduction.display import Page, complex_name, plain_style

page = Page(store)
spec = Demonstration(
    encoder=Pretrained.load().digest,
    classes=tuple(classes.split(",")),
    outsiders=tuple(unknown_classes.split(",")),
    snr=snr,
    n_labelled=n_labelled,
    n_particles=n_particles,
    n_averaged=n_averaged,
    false_accept_rate=false_accept_rate,
)
result = page.runner(spec)["result"]
Markdown(
    f"**Protocol.** Labelled: {n_labelled} particles each of {', '.join(map(complex_name, spec.classes))}. Query: "
    f"{n_particles} particles of each, and of the unknown classes {', '.join(map(complex_name, spec.outsiders))}; SNR "
    f"{snr:g}, 40³ voxels of 1 nm."
)

# %% [markdown]
# ## What goes in, what is printed, what comes out

# %% tags=["hide-input"]
print("\n".join(result["star"]))

# %% tags=["hide-input"]
print("\n".join([*result["printed"], "\nwrites\n", *result["files"]]))

# %% [markdown]
# `particles.star` is the input with seven further columns; `classes/*.star` hold the accepted particles of each class,
# ready for the next job; `rejected.star` holds the rest; `unreadable.csv` lists what could not be used and why;
# `averages` has maps with half maps and Fourier shell correlation; `report.html` shows everything in one file. The
# first particles:

# %% tags=["hide-input"]
plain_style(pd.DataFrame(result["rows"])).format(precision=2).hide(axis="index")

# %% [markdown]
# *Distance* is that to the centre of the class, in standard deviations within a class; *margin* is how much farther the
# runner-up is; *score* is how much likelier (in nats) a labelled class is than an unknown one. *p_value* is the share
# of particles of unknown classes that score at least as high: above the promised rate a particle is rejected. *q_value*
# is the share of wrong ones to expect among the particles of the class that are no more doubtful. *Truth* is known only
# here.
#
# ## How right it is

# %% tags=["hide-input", "nbval-check-output"]
plain_style(pd.DataFrame(result["counts"])).format(precision=2).hide(axis="index")

# %% tags=["hide-input", "nbval-check-output"]
foreseen, low, high = result["leave_one_out"]
right = result["accuracy_accepted"]
precision = "" if right is None else f", and of these **{right:.0%}** are right"
Markdown(
    f"Of the particles of a labelled class, **{result['accuracy']:.0%}** get the right one (chance "
    f"{1 / len(spec.classes):.0%}); {result['kept']:.0%} are accepted (recall){precision}. Of the particles of unknown "
    f"classes **{result['false_accepts']:.1%}** are accepted; at most {false_accept_rate:.0%} is the aim. The "
    f"expected calibration error of the probabilities is **{result['calibration_error']:.3f}**. From the labelled "
    f"particles alone, each left out in turn, the command foresees {foreseen:.0%} ({low:.0%} to {high:.0%}). This is "
    "one run with one draw; the encoder's card has averages."
)

# %% [markdown]
# ## The averages

# %% tags=["hide-input"]
if averages := result["averages"]:
    volumes = [unpacked(average["density"]) for average in averages.values()]
    lengths = [average["resolution_nm"] for average in averages.values()]
    titles = [
        f"{name}\n{average['n_particles']} particles\n" + (f"{length:.1f} nm" if length else "no resolution")
        for (name, average), length in zip(averages.items(), lengths, strict=True)
    ]
    slices_figure(volumes, titles, spec.microscope.final_voxel_size_nm)

# %% [markdown]
# Slices of the averages of accepted particles and of groups of rejected ones; poses are unknown. The resolution is that
# to which the two halves agree (0.143), corrected by random phases for the mask and for laying one half onto the other.
# Particles that share voxels go into the same half, and copies count once, so that neither can make the halves agree.
#
# All of the above is simulated. {doc}`real_particles` measures the command on a real tomogram.
#
# ## Before a run
#
# ```bash
# cryo-fewshot inspect labelled.star particles.star --picture slices.png
# ```
#
# prints how the tool reads each input: particles, box, voxel size and where it is stated, tomograms, the unit of
# coordinates, contrast, CTF, classes with their counts, and what is left out. The same lines stand at the head of every
# run, in `run.json` and in the report. Whatever a file states that changes the physics is used, reported, or refused by
# name; a refused run leaves nothing behind.
#
# Inputs are STAR files (RELION 3 to 5) and optimisation sets of RELION and WarpTools, 2D tilt stacks too, which are
# back-projected on reading; folders and stacks of MRC, EM or HDF, npz, copick projects (`--tomogram wbp@10.0 --picks
# user/session`), and tomograms (MRC, OME-Zarr, a folder of them, tomograms.star) with coordinates as STAR, csv,
# Dynamo's `.tbl`, IMOD's `.mod`, PEET's motive lists (with the model of the same name beside) or EMAN2's `_info.json`.
# What a run writes is an input again: STAR files, in voxels too for ArtiaX, and beside them a `.tbl`, a model with its
# motive list or an overlay in `OUT/copick` where the input was one.
#
# Options of reading (`--voxel-size-nm`, `--contrast`, `--mirror`, `--root`, `--box-nm`, `--pad-edges`,
# `--coordinate-voxel-size-nm`, `--tomogram`, `--tomograms-star`, `--picks`) are for both inputs, with `--support-` or
# `--query-` before the name for one alone.
#
# ## Scale, and options
#
# - Embeddings are computed once and kept in `OUT/embeddings` (or `--cache`): a run that was killed resumes there, and
#   another support or another false-accept rate costs seconds.
# - `--workers 8` reads with eight processes. `--shard 3/8` embeds the third of eight shares and stops: start eight jobs
#   with the same `--cache` (SLURM: `sbatch --array=1-8 --wrap 'cryo-fewshot classify ... --shard
#   $SLURM_ARRAY_TASK_ID/8'`), then run the command without `--shard`. The result has the same bits.
#   [Snakemake](https://snakemake.github.io) does all of it, GPUs in turn: `snakemake -s workflow/Snakefile --cores 8
#   --config support=labelled.star query=particles.star out=run1 shards=8 gpus=2`.
# - A particle that cannot be read is listed with the reason, and the rest goes on: {doc}`bad_input`.
# - How classes scatter is fitted to your particles, and the radial profile, the power per Fourier shell and, where they
#   can be compared, grey values are used beside the embedding ({doc}`real_particles`); `--no-adapt` keeps the scatter
#   of the encoder's card. Where the query is of another source than the support nothing is fitted, and the run says so;
#   labels from the query's own tomograms are then worth most. Boxes normalised one by one have lost their grey values:
#   give tomograms with coordinates where you can.
# - `--transductive` lets the unlabelled particles take part, which helps most with one label per class; which particles
#   are accepted stays. `--rotations 2`, or 4 where the tilt range is symmetric, is test-time augmentation: the mean
#   embedding over rotations that keep the missing wedge; probabilities were calibrated without it.
# - `--false-accept-rate 0.01` lets fewer unknown particles in. `--fdr 0.1` accepts by q-value instead: at most a tenth
#   of the accepted particles of each class is wrong. In the report the threshold can be moved.
# - `rejected_group_1.star` and so on are rejected particles that look alike, with their averages: perhaps a class that
#   you did not know of. `next_to_label.star` has the ten particles whose labels would help most, in order.
# - `--junk carbon,ice` names classes of the support that nobody wants: the best way to reject junk.
# - Of tomograms, 200 boxes away from the picks are looked at too (`--background` gives others, `--background 0` none):
#   half as one more class, half as decoys from which a particle must stand out. A labelled class that is itself
#   background, such as cytosol, cannot stand out: the run says so, and such a class belongs into `--junk`.
# - `cryo-fewshot train --support all.star --out mine.safetensors` finetunes the network on your labelled particles.
#   With fewer than some hundreds this does not help; the result is kept only if it is better on held-out particles.
#
# The same from Python:
#
# ```python
# from pathlib import Path
# from cryo_fewshot.particles.opening import open_particles
# from cryo_fewshot.recognition.classify import Settings, classify
#
# outcome = classify(open_particles("labelled.star"), open_particles("particles.star"), Path("run1"),
#                    settings=Settings(false_accept_rate=0.01), say=print)
# outcome.table.groupby("class")["probability"].describe()
# ```
