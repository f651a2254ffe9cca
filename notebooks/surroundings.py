# %% [markdown]
# # What training on cells brings
#
# In a tomogram of a cell no particle is alone: other complexes touch it, membranes pass through its box, boxes reach
# over the edge, picks are off centre. The package's first encoder was trained on complexes alone in their boxes; the
# pretrained encoder ({doc}`encoder_card`) went on from there among neighbours and membranes. Encoders are tested on
# held-out complexes alone in their boxes, on the same among neighbours or beside a membrane, and on boxes of the real
# tomogram of {doc}`real_particles`.

# %% tags=["parameters"]
factors = ""  # folder of NAME.safetensors from scripts/train_encoders.py --start results/encoders/first.safetensors
store = "extended"  # folder of results

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from studies import factor_evaluation as study
from studies.factors import CONTROL, factor_spec
from studies.pretrained import published_runner

from cryo_fewshot.figures.charts import rows_figure
from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import slices_figure
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions, simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import CROWD, MEMBRANE, Surroundings

use_style()
runner = published_runner(store)
entries = study.evaluate_factors(runner, Path(factors)) if factors else runner.store.entries("factorevaluation")
simulated, even, odd = (study.factor_frame(entries, part) for part in (study.SIMULATED, study.EVEN, study.ODD))
Markdown(study.change_text(simulated, odd))

# %% [markdown]
# ## One thing at a time
#
# A random radial response costs most on real boxes and next to nothing in simulation: it takes away how the spectra of
# real classes differ. Neighbours bring most in simulated boxes, membranes about half of that; for `classify` with one
# label, membranes bring what the whole recipe does. Measured noise helps in crowded simulated boxes, but nearest
# prototypes of real ones lose with it, so the pretrained encoder is not trained with it.

# %% tags=["hide-input"]
both = pd.concat([even, simulated], ignore_index=True)
rows_figure(study.gains_of(both), "gain over the control (percentage points)");

# %% [markdown]
# Each row is a short training from the weights of the first encoder, equal but for one setting; the control has empty
# boxes. A dot is its accuracy minus the control's, on the same tasks; 95 % intervals are over blocks of the tomogram,
# or simulated tasks. How far two trainings of one setting lie apart comes on top, see below.
#
# - **neighbours**, **membranes**: for half and 15 % of the samples, as in the pretrained encoder's training.
# - **background classes**: a bilayer, and a crowd without a centre, as two more training classes.
# - **off-centre picks**: up to 8 nm for 30 %. **Source voxels**: of 0.5 to 3.2 nm, the end of the frequencies.
# - **radial response**: a smooth random gain, standard deviation of its logarithm 0.25.
# - **gold and edges**: a gold bead for 10 %, a slab outside the tomogram for 15 %.
# - **measured noise**: for two of three groups of samples Gaussian noise with the power per Fourier shell of real boxes
#   without a particle: vacuum of the even columns of the same tomogram, or ice between microtubules.
# - **as shipped**: neighbours, membranes and background classes, the pretrained encoder's recipe; **averaged**: with
#   0.3 of the first encoder's weights, as the pretrained encoder is; that keeps what they were good at
#   {cite:p}`wortsman2022`. **All of them**: every setting above.

# %% tags=["hide-input"]
schedule = factor_spec(CONTROL).cost
Markdown(
    f"{schedule:,} volumes each, a thirteenth of the pretrained encoder's second training: what a longer one would "
    f"bring is not seen here. The tomogram's even columns were used to choose by; there the second membrane has too "
    f"few boxes for 5 labels, hence four classes. The odd columns were looked at when the table was finished, and once "
    f"more for the pretrained encoder. "
    f"{study.seeds_text(even, 'Even columns')} {study.seeds_text(simulated, 'Simulated')} One seed on the odd columns. "
    "Differences no larger than between seeds mean nothing."
)

# %% tags=["hide-input", "fold"]
shown = {study.FIVE: "all five", study.FOUR: "four classes"}
display(*(
    plain_style(study.factor_table(frame, shown, method)).set_caption(f"{method}, {half} columns (gain: 95 %)")
    for half, frame in (("even", even), ("odd", odd))
    for method in (study.TOOL, study.PROTOTYPE)
))

# %% tags=["hide-input", "fold"]
groups = {name: name for name in study.AROUND} | {study.SELECTION: "selection"}
caption = "Nearest prototype, mean over SNRs; selection: other classes, alone, by which settings may be chosen"
plain_style(study.factor_table(simulated, groups, study.PROTOTYPE)).set_caption(caption)

# %% [markdown]
# ## What the network sees
#
# A chaperonin alone, among neighbours and beside a membrane, and the two background classes, all but free of noise.
# Neighbours are training complexes a small gap away; membranes are two leaflets of beads, flat or bent into tubes and
# vesicles, some with complexes on them. The SNR is that of the complex alone; surroundings come on top, with at most
# four times its power. What reaches into a box is cut off, as in a tomogram.

# %% tags=["hide-input"]
complexes = factor_spec(CONTROL).acquisitions.surroundings.complexes
rows = {
    "alone": ("1AON", {}),
    "neighbours": ("1AON", {"neighbours": 1.0}),
    "near membrane": ("1AON", {"membranes": 1.0}),
    "class membrane": (MEMBRANE, {}),
    "class crowd": (CROWD, {}),
}
pictures = []
for name, settings in rows.values():
    surroundings = Surroundings(complexes=complexes, **settings)
    scene = Acquisitions(microscope=Microscope(binning=2), snrs=(100.0,), surroundings=surroundings)
    pictures.append(simulate_on_the_fly([name], scene, np.random.default_rng(4))[0].numpy())
slices_figure(pictures, list(rows), 2.0);

# %% [markdown]
# Limits: one tomogram, and labels that are automatic except for those of the ribosomes.
