# %% [markdown]
# # From simulation to reality
#
# The encoder that comes with the package ({doc}`encoder_card`) was trained on simulated particles alone. Does it know a
# real one? No labelled real set of several classes is public in a form that could be used here. What there is: 20 real
# 70S ribosomes of *M. pneumoniae*, in the cell, from EMPIAR-10499 (CC0): tilt stacks at 1.2 nm as WarpTools exports
# them, with the angles and defocus of every image. **One class, 20 particles**: this page can show a fault and whether
# it is mended. It cannot say how accurate anything is on real data.
#
# The library's own ribosomes are eukaryotic, mitochondrial, or a subunit alone, so even the right answer is only a
# relative. Nothing was tuned on these particles, and no step uses a label.

# %% tags=["parameters"]
particles = ""  # STAR file of real particles; empty to show the stored run
store = "extended"  # folder of results

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies import real_particles_tables as tables
from studies.averages import unpacked
from studies.demonstration import demonstrate_real
from studies.real_particles import digest_of, real_particles

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import slices_figure
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.reproduction.display import plain_style, provenance_line
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder

use_style()
encoder, card = load_encoder()
runner = open_runner(store)
if particles:
    opened = open_particles(particles)
    entries = [run(runner, encoder, card, opened, Microscope(binning=2)) for run in (real_particles, demonstrate_real)]
else:
    digest = digest_of(*encoder.state_dict().values())
    kinds = [runner.store.entries(kind) for kind in ("realparticles", "realdemonstration")]
    found = [[entry for entry in kind if entry["spec"]["encoder"] == digest] for kind in kinds]
    entries = [kind[-1] for kind in found] if all(found) else []
study, run = entries or (None, None)
missing = Markdown(
    "**Not run** for the encoder that ships. The particles are no part of the project; with them, "
    "`make notebook NB=reality P=\"particles='particles.star'\"` runs this page."
)


def words(write, entry):
    return Markdown(write(entry)) if entry else missing


def table(write, entry):
    return plain_style(write(entry)).hide(axis="index") if entry else missing


words(tables.protocol_text, study)

# %% [markdown]
# ## The fault: a CTF left in twice
#
# RELION 5 and WarpTools multiply each image by its contrast transfer function (CTF) before they write it. For averaging
# that is right: a Wiener filter divides by its square in the end. But the CTF is nearly zero at low frequencies, so a
# particle read from such a file has passed it twice, and has lost the long waves that tell a large complex from a small
# one.

# %% tags=["hide-input"]
words(tables.cause_text, study)

# %% tags=["hide-input"]
if study:
    tables.spectra_figure(study);

# %% [markdown]
# Power per frequency in each Fourier shell, relative to its mean. *Simulated*: all classes of the
# library at the SNR of the protocol. *Training*: what the encoder was trained on.
#
# The reader of tilt stacks now divides by the CTF that the STAR file tells; nothing is left to choose. Contrast, tilt
# axis, missing wedge, centre and voxel size were right before.

# %% tags=["hide-input"]
if study:
    tables.particles_figure(study);

# %% [markdown]
# Five particles of each kind, the mean of the three middle slices (6 nm), protein dark; simulated ribosomes at the SNR
# of the protocol.
#
# Is it a ribosome at all that was read? The file has refined angles; turned by them, the particles can be averaged:

# %% tags=["hide-input"]
if study and study["result"]["average"]:
    slices_figure([unpacked(study["result"]["average"]["density"])], ["average"], 2.0);

# %% tags=["hide-input"]
words(tables.average_text, study)

# %% [markdown]
# ## Simulated support: does a ribosome find its family?
#
# Five simulated particles of every complex of the library are the support, the real ribosomes are asked about. Rows:
#
# - **Shells matched**: each Fourier shell of the particles is scaled to the mean power that it has in the training (by
#   *tilt*: each shell in seven by the angle to the beam). **Masked**: inside a soft sphere, support too.
#   **Mirrored**: of the other hand.
# - **Embeddings centred**: the mean embedding of the real particles is moved onto that of the simulated ones. Of one
#   class alone this removes what makes it that class; it is here to show that it must not be done.
# - **Support in the real noise**: tilt series and defocus of the support are those of the file, and its noise has the
#   spectrum of the real particles. *Likewise*: with the CTF twice, as the files have it.
#
# The margin is of the log-likelihood, over the best class that is no kin. *All together*: the particles' evidence added
# up, which a user with a folder of one kind could do. The last columns say whether a step does harm where all is
# simulated: accuracy on the classes of {doc}`table1`, 5-way, 5-shot, nearest prototype. A dash: does not apply.

# %% tags=["hide-input"]
table(tables.tried_frame, study)

# %% tags=["hide-input"]
words(tables.tried_text, study)

# %% [markdown]
# ## Real support, and two controls
#
# With labelled real particles the question is easier, and more like use. But real particles among simulated ones may be
# known by their noise. Two controls: the simulated ones get the noise of the real ones; and real particles are told
# from **twins** with the same modulus at every frequency but random phases, which have the spectrum and noise of a real
# particle but no shape. Five of each are labelled.

# %% tags=["hide-input"]
words(tables.support_text, study)

# %% tags=["hide-input"]
table(tables.twins_frame, study)

# %% tags=["hide-input"]
words(tables.twins_text, study)

# %% [markdown]
# ## The command itself
#
# `cryo-fewshot classify` on the real ribosomes among complexes of their size, those that they are most often mistaken
# for among them: five labelled particles of each, the simulated ones in the noise of the real ones, all written as MRC
# files of 2 nm per voxel.

# %% tags=["hide-input"]
print("\n".join(run["result"]["printed"]) if run else "not run")

# %% tags=["hide-input"]
table(tables.confusion_frame, run)

# %% tags=["hide-input"]
words(tables.run_text, run)

# %% [markdown]
# ## What follows

# %% tags=["hide-input"]
words(tables.follow_text, study)

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries)}") if entries else missing

# %% tags=["nbval-check-output", "hide-cell"]
print({step: found["first"] for step, found in study["result"]["tried"].items()} if study else "not run")
