# %% [markdown]
# # Beside its peers
#
# What would a group do without this package? Here every method gets the same particles, the same labels and the same
# tasks as the pretrained encoder, so differences are paired. Where a method is better than ours, it stands here first.

# %% tags=["parameters"]
store = "extended"  # folder of results
encoder = ""  # file of an encoder; empty for the pretrained one
run = False  # run what is missing, minutes for the encoder, hours for all; else show what was run
volumes = 20_000  # of trainings of other architectures; 400_000, as the pretrained encoder's first, need a GPU
tomogram = ""  # folder of a labelled tomogram, as benchmark-real takes it; empty to show the stored run

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies import peers_tables as tables
from studies.open_world import Pretrained
from studies.peers import CLASSIFY, EACH, INVERTED, LABELLED, NEIGHBOURS, NETWORK, OTHER_SHAPE, PROTOTYPE, TRUE_MAP
from studies.peers_real import run_real
from studies.peers_tables import number

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.display import plain_style, provenance_line
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder

use_style()
pretrained = Pretrained(*load_encoder(encoder or None))
runner = Runner(Store(REPOSITORY / "results" / store))
simulated, entries = tables.simulated_frame(runner, pretrained, run, volumes)
conditions, condition_entries = tables.conditions_frame(runner, pretrained, run)
tables.accuracy_figure(simulated);

# %% tags=["hide-input"]
at = {name: [number(simulated, name, ".1%", snr=0.03, n_shot=n) for n in (1, 5)] for name in tables.ROWS}
crowded = {name: number(conditions, name, ".0%", condition=NEIGHBOURS) for name in tables.SHOWN}
Markdown(
    f"At SNR 0.03, template matching with the true structures is right in {at[TRUE_MAP][1]}, without any label. With "
    f"one labelled particle of each class as template it reaches {at[LABELLED][0]}, with each of five {at[EACH][1]}, "
    f"with their aligned mean {at[LABELLED][1]}. `classify` reaches {at[CLASSIFY][0]} with one label and "
    f"{at[CLASSIFY][1]} with five, the nearest prototype of the encoder {at[PROTOTYPE][0]} and {at[PROTOTYPE][1]}. "
    f"Among neighbours in the box, with five labels: the true structures {crowded[TRUE_MAP]}, each labelled particle "
    f"as a template {crowded[EACH]}, `classify` {crowded[CLASSIFY]}."
)

# %% [markdown]
# ## The same tasks
#
# Five of the eight test classes, boxes of 20³ at 2 nm, one or five labelled particles of each, the episodes of
# {doc}`table1`. Intervals: 95 %, over tasks. Dashed: chance. In the table below each accuracy stands what `classify`
# gains over the method on queries that both answered; **negative: the method is better**.

# %% tags=["hide-input", "fold"]
plain_style(tables.simulated_table(simulated)).set_caption("Accuracy, and what classify gains")

# %% [markdown]
# - **Template matching** asks for the best normalised cross-correlation over 551 rotations, 30° apart, and shifts up to
#   4 nm, whitened by the particles' noise and confined to the frequencies that both tilt series hold. Templates: the
#   true structure; a ball of protein of its mass; the labelled particle, or the mean of five that are aligned to one
#   another, or each of the five. It is the alignment that the package averages with. **By acryo** 0.9.1 and **by
#   pyTME** 0.3.6: 20 particles with one label, 233 rotations, 40° apart, their defaults but for mask and wedge.
# - **PCA** of voxels of all particles, unaligned as they come, then the nearest neighbour or a support vector machine
#   (SVM), by scikit-learn. **Shell powers**: the logarithm of the power in Fourier shells. **Harmonic powers**: of
#   spherical harmonics on shells, which no rotation changes. Both with the nearest prototype.
# - **Residual network on the labels**: small, 3D, from random weights for every task, with rotations and shifts.
# - **ProtoNet3D, ProtoNet-CE**: the paper's networks, trained on ten classes until they stopped improving
#   ({doc}`alike_for_all`). **Pretrained encoder**: the one that comes with the package. `classify` is fitted to all
#   particles of a task's classes, without labels, as the command is; boxes are normalised one by one.
#
# Settings were chosen on eight other classes at SNR 0.05, for one and five labels each: components and resolution of
# the PCA, C, degree and space of the harmonics, steps of the network, the mask of templates; of equals the first. The
# pretrained encoder's own choices were made on those classes too. Templates (but the ball) and the network answer three
# queries of each class in the first 20 to 40 tasks; all others, all 75 queries of 300 tasks. The true structures that
# were searched are the very ones that were simulated, and the encoder was trained on other complexes of the same
# simulator: a best case for both.

# %% tags=["hide-input", "fold"]
plain_style(tables.choices_table(runner)).hide(axis="index").format(precision=3).set_caption(
    "Settings, on validation classes"
)

# %% [markdown]
# ## Where each breaks
#
# SNR 0.03, five labels. A line marks the method on particles as simulated, the sign beside it what is left of it.
# *Picks off*: by up to 8 nm along each axis, twice what templates are searched for. *Voxel size*: particles are 3 %
# smaller than the file says. *Neighbours*: one to three other complexes in every box. *Another conformation*: one half
# of each asked complex is turned by 20° against the other; structures and labelled particles are not. *Contrast
# inverted*: of every particle, unnoticed; the command detects it, and says so.

# %% tags=["hide-input"]
tables.conditions_figure(simulated, conditions);

# %% [markdown]
# ## A real tomogram
#
# The tomogram of {doc}`real_particles`, its odd half, the same episodes: accuracy with the 95 % interval over blocks of
# the tomogram. Settings are those chosen on simulated classes. No structure is known beforehand of ER or cytosol, so
# templates are labelled particles; these answered 20 episodes, all others 100. Ribosomes are the only complex, and
# membranes have no pose. `classify` and the rows with grey values see those of the tomogram; *normalised one by one*
# sees as little as the peers do.

# %% tags=["hide-input"]
if tomogram:
    run_real(runner, pretrained, tomogram)
real = tables.real_frame(runner.store, pretrained)
plain_style(tables.real_table(real))

# %% [markdown]
# ## What a particle costs
#
# From a box in memory to a class among five, five labels each, on two threads; the fastest of several repeats, as other
# programs ran beside it. What is done once for all (aligning the labelled particles, fitting) is shared by the
# particles of the run, 20 for templates, 100 for the others; acryo and pyTME are counted up from a part of their 233
# rotations. Peak memory is that of the whole process. **Time to the first answer**, reading of files counted: these
# milliseconds times the particles, so extrapolated. **A new class**: template matching searches all particles again
# with one more template, a fifth of its time here. Features and embeddings stay; an SVM or the fit of `classify` is
# done anew, in seconds, and the nearest prototype needs but one more mean.

# %% tags=["hide-input"]
plain_style(tables.speed_table()).format(precision=2, na_rep="–").hide(axis="index")

# %% [markdown]
# ## The released code of the paper
#
# No line of it is here, as its licence is another (GPL-3). Whoever has a copy can run it beside this package: it takes
# the same volumes `(n, 1, 40, 40, 40)`, and its four blocks list their weights in the order of `Encoder3D`, so that
#
#     theirs.load_state_dict(dict(zip(theirs.state_dict(), encoder.state_dict().values(), strict=True)))
#
# gives both the same weights. On equal weights embeddings, both distances and the loss agree within 4·10⁻⁶ in fp32; the
# test `tests/test_parity.py` holds this against numbers that were recorded from the released code.
#
# ## Which to take

# %% tags=["hide-input"]
ours = real.replace({"method": {"classify": CLASSIFY}})


def pair(frame, method, **tasks):
    return " against ".join(number(frame, name, **tasks) for name in (method, CLASSIFY))


structure = {condition: pair(conditions, TRUE_MAP, condition=condition) for condition in tables.CONDITIONS}
labelled = {condition: pair(conditions, EACH, condition=condition) for condition in tables.CONDITIONS}
Markdown(
    "Pairs of numbers: the method against `classify`, at SNR 0.03 with five labels.\n\n"
    f"**Template matching, where the structures are known** and classes are few: {structure['as simulated']}; among "
    f"neighbours, which its mask shuts out, {structure[NEIGHBOURS]}; in another conformation {structure[OTHER_SHAPE]}. "
    f"Contrast and picks have to be right: {structure[INVERTED]} inverted, {structure['picks off by up to 8 nm']} "
    "where picks are off farther than it looks.\n\n"
    "**Labelled particles as templates, in crowded boxes** and where time does not matter: "
    f"{labelled[NEIGHBOURS]} among neighbours, {labelled['as simulated']} without, {labelled['tilts of ±40°']} with "
    f"tilts of ±40°, and on the tomogram, all five classes, {pair(ours, EACH, task='all five', n_shot=5)}.\n\n"
    "**A supervised network, where there are hundreds of labels** of each class: on five it reaches "
    f"{pair(simulated, NETWORK, snr=0.1, n_shot=5)} at SNR 0.1. {{doc}}`bounds` has 100 and 500.\n\n"
    "**`classify`, for the rest**: no structures, few labels, classes that are no complexes, many particles or classes "
    "that come and go. It alone says how likely each answer is and refuses unknown ones."
)

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(entries + condition_entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
shown = simulated.drop(columns=["gain", "gain_ci95"]).assign(condition="as simulated")
print(tables.pd.concat([shown, conditions[shown.columns]]).round(3).to_csv(index=False))
