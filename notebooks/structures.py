# %% [markdown]
# # The complexes
#
# The classes to be told apart are complexes of proteins, some with RNA or DNA. Each is stored as beads of about one
# cubic nanometre, which is as fine as volumes with voxels of 1 nm can show.

# %% tags=["parameters"]
class_set = "paper22"  # paper22, noble, guo, extra or library (all of them)

# %% tags=["hide-input"]
import numpy as np
from IPython.display import HTML, Markdown

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import gallery_figure
from cryo_fewshot.reproduction.display import complex_label
from cryo_fewshot.simulation.density import mass_density, protein_level, upright
from cryo_fewshot.simulation.structures import class_keys, load_complex, registry

use_style()
table = registry().loc[list(class_keys(class_set))].sort_values("mass_kda", ascending=False)
fidelities = table["fidelity"].replace("", "unspecified").value_counts()
Markdown(
    f"**Protocol.** Class set {class_set}: {len(table)} complexes of {table['mass_kda'].min():.0f} to "
    f"{table['mass_kda'].max():.0f} kDa; "
    f"fidelity: {', '.join(f'{count} {fidelity}' for fidelity, count in fidelities.items())}."
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Shaded surfaces of the complexes on one scale, largest mass first"}}
voxel_nm = 0.5
complexes = [load_complex(key) for key in table.index]
turned = [upright(entry.positions_nm, entry.masses_kda) for entry in complexes]
box = 2 * int(np.ceil((max(np.abs(positions).max() for positions in turned) + 1.2) / voxel_nm))
densities = [
    mass_density(positions, entry.masses_kda, box=box, voxel_size_nm=voxel_nm)
    for positions, entry in zip(turned, complexes, strict=True)
]
levels = [protein_level(density, entry.mass_kda, voxel_nm) for density, entry in zip(densities, complexes, strict=True)]
titles = [f"{complex_label(key)}\n{row.mass_kda:.0f} kDa\n{row.fidelity}" for key, row in table.iterrows()]
inks = {"exact": "#00664b", "homologue": "#00568a", "substitute": "#9a4300"}
colours = [inks.get(fidelity, "black") for fidelity in table["fidelity"]]
gallery_figure(densities, levels, titles, voxel_nm, title_colours=colours);

# %% [markdown]
# All complexes on one scale, heaviest first, each with its longest axis upright and tipped towards the reader. The
# surface encloses the volume that the mass takes up; colour is the distance from the centre. The word under the name
# says how the complex relates to the class of the paper that it stands for.

# %% tags=["hide-input"]
paired = (table["family"] != "") & table["family"].duplicated(keep=False)
shown = table.assign(family=table["family"].where(paired, "")).reset_index()
shown = shown[["name", "key", "stands_for", "fidelity", "family", "mass_kda", "max_diameter_nm"]]
shown.columns = ["Name", "Key", "Stands for", "Fidelity", "Family in common", "Mass (kDa)", "Diameter (nm)"]
HTML(shown.to_html(index=False, border=0, float_format="{:,.1f}".format))

# %% [markdown]
# **What the words mean.** *Exact*: the same entry of the Protein Data Bank. *Homologue*: the same kind of complex, in
# another entry or from another organism; at 4 nm resolution much the same object. *Substitute*: an unrelated complex
# that keeps the number of classes right, because the entry is not in the bundled library. With network access the
# entries themselves can be used instead (class set `pdb22`; {doc}`../deviations` says more).

# **The hard pair.** Two proteasomes (1PMA and 3IPM) share the barrel of four rings; 3IPM has a cap on each end. The
# entries that they stand for are such a pair too.
#
# **To conclude.** Few of the classes are the paper's own, so accuracies can be compared as a whole but not class by
# class. The smallest complex fills a few dozen voxels of 1 nm, the largest more than a thousand. A small one is not
# fainter, since SNR is a ratio over the whole box: its signal falls on fewer voxels. Rings and barrels recur, and
# differ in details of a few nanometres, near the resolution limit of 4 nm.
