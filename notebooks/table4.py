# %% [markdown]
# # Table 4: the real data sets
#
# The paper also tests on two measured sets: purified particles imaged by tomography by Noble et al. {cite}`noble2018`,
# and rat neurons by Guo et al. {cite}`guo2018`; three classes that the network has not seen, one or five labelled
# subtomograms of each. Neither set of subtomograms can be downloaded, so **unless a folder is given below, the numbers
# on this page are from surrogates**: simulated sets with the SNR, tilt range and voxel size of the real ones and the
# closest structures of the library. A surrogate says nothing about the real set; it shows that the code works.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
noble_path = ""  # folder with a sub-folder of MRC files per class, or a STAR file; empty for the surrogate
guo_path = ""  # the same for the set of Guo et al.
file_voxel_size_nm = 0.0  # nm; 0 takes what the files' headers say
dark_protein = True  # False where protein is bright in the files
n_shot = "5,1"  # labelled subtomograms per class
split_seed = 0  # which classes are for training
train_seed = 0  # initial weights and training episodes

# %% [markdown]
# ## The surrogates at the paper's own size

# %% tags=["hide-input"]
from dataclasses import replace

import pandas as pd
from IPython.display import Markdown

from cryo_fewshot.particles.labelled import measured_data
from cryo_fewshot.reproduction.cells import surrogate, table_4
from cryo_fewshot.reproduction.display import Page, papers_size, protocol_line, show_real_data, show_surrogates
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.quoted import quoted_real
from cryo_fewshot.reproduction.tables import tidy_frame

full_size = profile_named("paper")
papers_size(
    [
        replace(cell, method=f"{name} surrogate, {cell.method}")
        for name in ("noble", "guo")
        for cell in table_4(full_size, surrogate(name, full_size))
    ]
)

# %% [markdown]
# ## At a reduced size, or on your folder

# %% tags=["hide-input"]
page = Page(profile)
settings = page.settings
paths = {"noble": noble_path, "guo": guo_path}
data = {name: surrogate(name, settings) for name in paths}
for name, path in paths.items():
    if path:
        recipe = data[name]
        data[name] = measured_data(
            path,
            name=name,
            snr=recipe.snr,
            split_sizes=recipe.split_sizes,
            box=recipe.box,
            voxel_size_nm=recipe.voxel_size_nm,
            file_voxel_size_nm=file_voxel_size_nm or None,
            dark_protein=dark_protein,
            max_per_class=recipe.n_per_class,
        )
shots = numbers("n_shot", n_shot, int)
seeds = {"split_seed": split_seed, "train_seed": train_seed}
cells = {name: table_4(settings, data[name], quoted_real(name), shots=shots, **seeds) for name in paths}
protocols = [f"**Protocol, {data[name].class_set}.** {protocol_line(cells[name], settings)}" for name in cells]
Markdown("\n\n".join(protocols).replace("stand-in", "surrogate"))  # stored results have the former name

# %% tags=["hide-input", "nbval-check-output"]
entries = {name: page.runner.run_cells(cells[name]) for name in cells}
table = pd.concat([tidy_frame(cells[name], entries[name]) for name in cells], ignore_index=True)
show_real_data(table.replace("stand-in", "surrogate", regex=True))

# %% [markdown]
# For a surrogate, the difference from the paper's number compares two different data sets; it is printed for
# completeness only.
#
# ## What 100 % on Noble means
#
# In the set of Noble et al. every class has its own grid, session and pixel size. A network can tell such classes apart
# by their noise alone, without looking at a molecule, and the paper's 100 % may be no more than that. In the surrogate
# all classes share one microscope, so the noise gives nothing away.

# %% [markdown]
# ## Which structure stands for which class

# %% tags=["hide-input"]
show_surrogates({name: surrogate(name, settings) for name in paths}, split_seed)
