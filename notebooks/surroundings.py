# %% [markdown]
# # What training on cells brings
#
# In a tomogram of a cell no particle is alone: other complexes touch it, membranes pass through its box, boxes reach
# over the edge, picks are off centre. The package's first encoder was trained on complexes alone in their boxes; the
# pretrained encoder ({doc}`encoder_card`) went on from there among neighbours and membranes. Here the first training is
# repeated with such surroundings, and each encoder is tested in three ways: on held-out complexes alone in their boxes,
# on the same among neighbours or beside a membrane, and on boxes of a real tomogram.

# %% tags=["parameters"]
encoders = ""  # folder of NAME.safetensors from scripts/train_encoders.py; empty to show the stored run
factors = ""  # the same of `--specs studies.factors:trainings --start results/encoders/first.safetensors`
store = "extended"  # folder of results

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from studies.cell_evaluation import cell_evaluation, finding, read_boxes, shown_real, shown_simulated
from studies.cell_trainings import SHOWN, trainings
from studies.charts import gains_figure
from studies.factor_evaluation import (
    EVEN,
    FIVE,
    FOUR,
    ODD,
    PROTOTYPE,
    SELECTION,
    SIMULATED,
    TOOL,
    evaluate_factors,
    factor_frame,
    factor_table,
    gains_of,
    gains_text,
    seeds_text,
)
from studies.factors import factor_spec

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import slices_figure
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions, simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import CROWD, MEMBRANE, Surroundings
from cryo_fewshot.weights import load_encoder

use_style()
if encoders:
    runner, boxes, entries = open_runner(store), read_boxes(), []
    for path in sorted(Path(encoders).glob("*.safetensors")):
        encoder, card = load_encoder(path)
        entries.append(cell_evaluation(runner, path.stem, card, encoder, boxes))
else:
    entries = Store(REPOSITORY / "results" / store).entries("cellevaluation")
order = list(SHOWN)
entries = sorted((e for e in entries if e["spec"]["name"] in SHOWN), key=lambda e: order.index(e["spec"]["name"]))
spec = entries[0]["spec"]
Markdown(
    f"**Protocol.** {len(entries)} trainings of the pretrained encoder's recipe, one seed each. Nearest prototypes "
    f"among unit embeddings, {min(5, len(spec['classes']))}-way, {spec['n_episodes']} tasks; intervals are over tasks. "
    f"Simulated: {len(spec['classes'])} classes held out with their families, means over SNR "
    f"{', '.join(f'{snr:g}' for snr in spec['snrs'])}."
)

# %% tags=["hide-input"]
names = {entry["spec"]["name"] for entry in entries}
compared = [pair for pair in (("control", "cells"), ("shipped", "cells-averaged")) if set(pair) <= names]
Markdown("\n".join(f"* {finding(entries, *pair)}" for pair in compared))

# %% [markdown]
# ## One thing at a time
#
# A random radial response costs most on real boxes and next to nothing in simulation: it takes away how the spectra of
# real classes differ. Neighbours bring most in simulated boxes, membranes about half of that; for `classify` with one
# label, membranes bring what the whole recipe does. Measured noise helps in crowded simulated boxes, but nearest
# prototypes of real ones lose with it, so the pretrained encoder is not trained with it.

# %% tags=["hide-input"]
if factors:
    one_at_a_time = evaluate_factors(open_runner(store), Path(factors), (SIMULATED, EVEN, ODD))
else:
    one_at_a_time = Store(REPOSITORY / "results" / store).entries("factorevaluation")
simulated, even, odd = (factor_frame(one_at_a_time, part) for part in (SIMULATED, EVEN, ODD))
both = pd.concat([even, simulated], ignore_index=True)
gains_figure(gains_of(both), "gain over the control (percentage points)");

# %% [markdown]
# Each row is a short training from the weights of the first encoder, equal but for one setting; the control has empty
# boxes. A dot is its accuracy minus the control's, on the same tasks. Bars are 95 % intervals: blocks of the tomogram,
# or simulated tasks, drawn with replacement. How far two trainings of one setting lie apart comes on top, see below.
#
# - **neighbours**, **membranes**: for half and 15 % of the samples, as in the pretrained encoder's training.
# - **background classes**: a bilayer, and a crowd without a centre, as two more training classes.
# - **off-centre picks**: up to 8 nm for 30 %. **Source voxels**: of 0.5 to 3.2 nm, the end of the frequencies.
# - **radial response**: a smooth random gain, standard deviation of its logarithm 0.25.
# - **gold and edges**: a gold bead for 10 %, a slab outside the tomogram for 15 %.
# - **measured noise**: for two of three groups of samples Gaussian noise with the power per Fourier shell of real boxes
#   without a particle: vacuum of the even columns of the same tomogram, or ice between microtubules.
# - **as shipped**: neighbours, membranes and background classes, the pretrained encoder's recipe; **averaged**: with
#   0.3 of the first encoder's weights. **All of them**: every setting above.

# %% tags=["hide-input"]
Markdown("\n".join(f"* {text}" for text in (
    gains_text(even, FOUR, PROTOTYPE, 5, "**Real tomogram**, even columns, four classes, nearest prototype, 5 labels"),
    gains_text(odd, FIVE, PROTOTYPE, 5, "**Real tomogram**, odd columns, five classes, nearest prototype, 5 labels"),
    gains_text(odd, FIVE, TOOL, 1, "**Real tomogram**, odd columns, five classes, `classify`, 1 label"),
    gains_text(simulated, "among neighbours", PROTOTYPE, 5, "**Simulated among neighbours**, 5 labels"),
    gains_text(simulated, "alone in the box", PROTOTYPE, 5, "**Simulated alone**, 5 labels"),
)))

# %% tags=["hide-input"]
schedule = factor_spec("control").cost
Markdown(
    f"{schedule:,} volumes each, a thirteenth of the pretrained encoder's second training: what a longer one would "
    f"bring is not seen here. The tomogram's even columns were used to choose by; there the second membrane has too "
    f"few boxes for 5 labels, hence four classes. The odd columns were looked at once, when the table was finished. "
    f"{seeds_text(even, 'Even columns')} {seeds_text(simulated, 'Simulated')} One seed on the odd columns. Differences "
    "no larger than between seeds mean nothing. `classify` fits how classes scatter to the tomogram and has its grey "
    "values, so it needs the training less."
)

# %% tags=["hide-input", "fold"]
shown = {FIVE: "all five", FOUR: "four classes"}
display(*(
    plain_style(factor_table(frame, shown, method)).set_caption(f"{method}, {half} columns (gain over control: 95 %)")
    for half, frame in (("even", even), ("odd", odd)) if len(frame)
    for method in (TOOL, PROTOTYPE)
))

# %% tags=["hide-input", "fold"]
groups = {name: name for name in ("alone in the box", "among neighbours", "beside a membrane")}
caption = "Nearest prototype, mean over SNRs; selection: other classes, alone, by which settings may be chosen"
plain_style(factor_table(simulated, groups | {SELECTION: "selection"}, PROTOTYPE)).set_caption(caption)

# %% [markdown]
# ## What the network sees
#
# The SNR is that of the complex alone; surroundings come on top, with at most four times its power. Neighbours are
# training complexes a small gap away from the complex, at most ten times as heavy. Membranes are two leaflets of beads,
# flat or bent into tubes and vesicles, some in pairs, some with complexes on them. All pass through the same
# microscope. A box is simulated 8 nm wider than it is returned, so that what reaches in is cut off, as in a tomogram.
# Below: a chaperonin alone, among neighbours and beside a membrane, and the two background classes, all but free of
# noise.

# %% tags=["hide-input"]
complexes = trainings()["cells"].acquisitions.surroundings.complexes
rows = {
    "alone": ("1AON", Surroundings(complexes=complexes)),
    "neighbours": ("1AON", Surroundings(complexes=complexes, neighbours=1.0)),
    "near membrane": ("1AON", Surroundings(complexes=complexes, membranes=1.0)),
    "class membrane": (MEMBRANE, Surroundings(complexes=complexes)),
    "class crowd": (CROWD, Surroundings(complexes=complexes)),
}
scenes = {
    title: Acquisitions(microscope=Microscope(binning=2), snrs=(100.0,), surroundings=surroundings)
    for title, (_, surroundings) in rows.items()
}
pictures = [
    simulate_on_the_fly([name], scenes[title], np.random.default_rng(4))[0].numpy()
    for title, (name, _) in rows.items()
]
slices_figure(pictures, list(rows), 2.0);

# %% [markdown]
# ## Simulated complexes that were in no training

# %% tags=["hide-input"]
plain_style(shown_simulated(entries)).format(precision=3)

# %% [markdown]
# ## A real tomogram
#
# One in situ tomogram of yeast (EMPIAR-11658, voxels of 3.1 nm): ribosomes, two kinds of membrane, cytosol and vacuum,
# five classes from one acquisition. No query shares a voxel with the support of its task. The encoder gets the boxes as
# they are cut, or with the mean power of each Fourier shell matched to that of the training and the embeddings centred
# on the mean of all boxes; neither needs a label. Columns of 40 voxels divide the tomogram into a checkerboard:
# settings were chosen on the even ones, and the odd ones are shown here.

# %% tags=["hide-input"]
plain_style(shown_real(entries, "odd")).format(precision=3)

# %% [markdown]
# The pretrained encoder is the weighted mean of two sets of weights: 0.7 of the encoder that was trained further from
# the first one, and 0.3 of the first one, which keeps what that was good at {cite:p}`wortsman2022`. The share was
# chosen from two on the even columns and on the held-out complexes above.
#
# Limits: one tomogram, one seed per training, and labels that are automatic except for those of the ribosomes. The
# intervals are over tasks of the same boxes, about ± 0.01, and say nothing about another tomogram.
