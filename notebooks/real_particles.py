# %% [markdown]
# # Real particles
#
# The encoder was trained on simulated particles alone. This page asks what it is worth on real ones: first with
# labelled particles of the same tomogram, as `cryo-fewshot classify` is meant to be used, then with simulated particles
# as the labelled ones.

# %% tags=["parameters"]
tomogram = ""  # folder of a labelled tomogram, as benchmark-real takes it; empty to show the stored run
picks = ""  # folder of tomograms with picks, as `cryo-fewshot fetch-portal` writes it
particles = ""  # STAR file of real particles; empty to show the stored run
store = "extended"  # folder of results

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies import real_particles_figures as figures
from studies.pretrained import Pretrained, published_runner
from studies.real_benchmark import REAL, SMALL_SETS, RealBenchmark, RealSlices, real_boxes, tomogram_of
from studies.real_particles import decoy_draws, draws_text, ranks_frame, real_particles
from studies.real_unknown import RealUnknown, unknown_frame, unknown_text
from studies.sources import SimulatedSupport, support_frame

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.simulation.microscope import Microscope

use_style()
runner, pretrained = published_runner(store), Pretrained.load()
if tomogram:
    data = tomogram_of(tomogram, pretrained.encoder, pretrained.card)
    boxes = digest_of(data.volumes)
    runner(RealSlices(boxes=boxes), data.volumes, data.labels)
    for study in (RealBenchmark, RealUnknown, SimulatedSupport):
        runner(study(encoder=pretrained.digest, boxes=boxes), pretrained, data)
    for kinds in SMALL_SETS if REAL.is_dir() else ():
        real_boxes(runner, pretrained, kinds)
if picks:
    data = tomogram_of(picks, pretrained.encoder, pretrained.card)
    runner(RealBenchmark(encoder=pretrained.digest, boxes=digest_of(data.volumes)), pretrained, data)
if particles:
    opened = open_particles(particles)
    real_particles(runner, pretrained, opened, Microscope(binning=2))
    for n_shot in (5, 10):
        decoy_draws(runner, pretrained, opened, n_shot)


def stored(kind):
    """Entries of the encoder that was measured last, the newest first; its data are not bundled."""
    found = sorted(runner.store.entries(kind), key=lambda entry: entry["provenance"]["date"], reverse=True)
    return [entry for entry in found if entry["spec"].get("encoder") == found[0]["spec"].get("encoder")]


benchmarks, small_sets, decoys = (stored(kind) for kind in ("realbenchmark", "realboxes", "decoydraws"))
study, unknown, support = (stored(kind)[0] for kind in ("realparticles", "realunknown", "simulatedsupport"))
rows = figures.benchmark_rows(benchmarks)


def show(table, caption=""):
    """A table without its index."""
    return plain_style(table).hide(axis="index").set_caption(caption)


earlier = {entry["spec"]["encoder"] for entry in [study, support, *benchmarks]} - {pretrained.digest}
Markdown("**Measured with an earlier encoder**, not the package's current one.") if earlier else None

# %% [markdown]
# ## A tomogram of a cell
#
# One tomogram of a yeast lamella (EMPIAR-11658, number 171), at 3.1 nm per voxel: ribosomes, membranes of the
# endoplasmic reticulum (ER), a second double membrane, cytosol, and the vacuum outside the lamella.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Middle slices of boxes of a real tomogram, a row per class"}}
figures.yeast_slices_figure(stored("realslices")[0]);

# %% [markdown]
# Boxes of each class, drawn at random, as the encoder gets them: 40 nm wide, the mean of the three middle slices of
# 2 nm.

# %% tags=["hide-input"]
Markdown(figures.benchmark_finding(rows))

# %% tags=["hide-input"]
figures.benchmark_figure(rows);

# %% [markdown]
# *classify*: the command with its defaults. *Embedding alone*: the nearest prototype of the encoder's embeddings.
# *Features alone*: the nearest prototype of 9 radial means and 8 powers per Fourier shell. *Features and embedding*:
# the nearest prototype of both and of three grey values, at equal weight. `--no-adapt`: the geometry of classes as
# measured on simulated particles.
#
# **How it was measured.** All particles are of one tomogram, so the acquisition gives nothing away, and no query shares
# a voxel with the support of its episode. The tomogram is divided into columns of 40 × 40 voxels as a checkerboard. The
# constants of the fit were chosen on the even half and on simulated particles; the odd half is reported. While the kind
# of model was sought, both halves were looked at. Bars: 95 % intervals over columns drawn with replacement.

# %% tags=["hide-input"]
Markdown(figures.benchmark_text(rows))

# %% [markdown]
# Every method, task and number of labels, on the odd half and on all boxes. Rows that the figure does not have:
#
# - **classify, boxes normalised one by one**: without grey values, as if each box had mean 0 and variance 1.
# - **nearest prototype, centred**: minus the mean of all embeddings; **shells matched**: each Fourier shell scaled to
#   the mean power that it has in the training. Neither uses labels.
# - **three grey values** of a box as it lies in the tomogram: mean, contrast, mean of the middle 12 nm. **voxels**: the
#   box itself.

# %% tags=["hide-input", "fold"]
show(figures.benchmark_frame(rows, "odd"), "Accuracy on the odd half")

# %% tags=["hide-input", "fold"]
show(figures.benchmark_frame(rows, "all"), "Accuracy on all boxes")

# %% [markdown]
# **Limits.** Only the ribosomes were labelled by people, and not every ribosome is on their list. The other classes
# were labelled automatically; the cytosol by its density, which grey values then find again: hence the task without it.
# It is one tomogram, with nothing finer than 6.3 nm, so it says nothing about complexes of like size and shape. For a
# tomogram of your own:
#
#     cryo-fewshot benchmark-real tomogram.mrc --coordinates labelled.star --label-column rlnClassName
#
# ### Where some classes have no labels

# %% tags=["hide-input"]
Markdown(unknown_text(unknown))

# %% tags=["hide-input", "fold"]
show(unknown_frame(unknown), "Odd half, some classes without labels").format(precision=3, na_rep="–")

# %% [markdown]
# Means over draws of the labelled boxes; a class that has fewer boxes gives all but three as labels. *Right ones kept*
# is at the promised 5 %, the columns behind it at the promised FDR. *Bound held*: how often no more were wrong than the
# run says at most. How background boxes are used was decided on the even half: decoys alone let 12 % of the unknown
# particles in there, against 2 %. On this half decoys alone had been measured before: 16 to 28 %.
#
# ## Six complexes of one acquisition
#
# The right test is the set of the CZII challenge: six complexes picked in seven tomograms of one acquisition (CZ cryoET
# Data Portal, dataset 10440). It has to be fetched: `cryo-fewshot fetch-portal FOLDER`, then `cryo-fewshot
# benchmark-real FOLDER --shots 1,5,20`. The last column of its table says how well scores tell queries from boxes away
# from all picks, which stand for an unknown class.

# %% tags=["hide-input"]
picked = figures.benchmark_rows(benchmarks, figures.PICKS)
not_run = Markdown("Not run here: the data could not be fetched.")
show(figures.benchmark_frame(picked, "all", background=True)) if len(picked) else not_run

# %% [markdown]
# ## Two small sets
#
# **Microtubules and ice** of one tomogram are easy, a smoke test. **70S, 80S and microtubules** come from three data
# sets and are **confounded**: how they were recorded and filtered may tell them apart. The control, nearest prototype
# on the power per Fourier shell, shows how far that alone goes: nearly as far as the encoder, so the set proves
# nothing.

# %% tags=["hide-input"]
show(figures.small_sets_frame(small_sets))

# %% [markdown]
# ## Simulated support
#
# Can simulated particles stand for real ones as support? They seldom can. Boxes of the tomogram above, with simulated
# particles of a ribosome, a membrane, a crowd and vacuum as the labelled ones, five each:

# %% tags=["hide-input"]
plain_style(support_frame(support)).format(precision=3)

# %% [markdown]
# `classify` compares the power per Fourier shell of the query with that of the labelled classes, and with fewer than
# three labels a class the noise too. Where the query lies beyond all classes, the scatter is not fitted, and the
# command says so: how the sources differ would be taken for scatter within classes. Matching the query's shells to the
# support's costs much wherever the spectrum tells what a box holds, so the command does not match shells.
#
# **Ribosomes of another microscope.** 20 real 70S ribosomes of *M. pneumoniae*, in the cell, from EMPIAR-10499 (CC0),
# as tilt stacks at 1.2 nm that WarpTools exported. The support is five simulated particles of every complex of the
# library, where even the right answer is a homologue. The rank is that of the best ribosome among it and all other
# classes. *Likeliest*: share of the particles whose likeliest class is a ribosome. *All together*: log-likelihoods
# added up, for a folder that is known to hold one kind.

# %% tags=["hide-input", "nbval-check-output"]
show(ranks_frame(study))

# %% [markdown]
# RELION 5 and WarpTools multiply each image by its contrast transfer function (CTF), which the microscope had applied
# already. The reader of tilt stacks divides by it; left in, it costs everything. *Shells matched*: each Fourier shell
# is scaled to the mean power that it has in the training. *Support in the real noise*: it has the tilt series and
# defocus of the file, SNR 0.03, and noise with the spectrum of the real particles. No correction uses a label. **One
# class and 20 particles** can show a fault and whether it is mended, not how accurate anything is on real data.
#
# ## Real support does better

# %% tags=["hide-input"]
own, in_noise = (study["result"]["support"][name] for name in ("in their own noise", "in the real noise"))
Markdown(
    f"With five of the real ribosomes as the support of their class, among simulated particles of all others, "
    f"{own['real_right']:.0%} of the real ones are recognised. They might be by their noise alone: where the simulated "
    f"ones have the noise of the real ones it is {in_noise['real_right']:.0%} (of the simulated ones "
    f"{in_noise['simulated_right']:.0%})."
)

# %% [markdown]
# **It is not the noise alone.** Phase-randomised decoys have the modulus of a real particle at every frequency but
# random phases: its spectrum and noise, but no shape. Chance is 50 %.

# %% tags=["hide-input"]
Markdown(draws_text(sorted(decoys, key=lambda entry: entry["spec"]["n_shot"])))

# %% [markdown]
# **To conclude.** Label a few real particles of each kind, all from the same tomograms, and give the tomogram with
# coordinates rather than boxes cut and normalised one by one. Simulated particles do not replace labelled ones.
