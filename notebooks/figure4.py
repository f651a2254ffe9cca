# %% [markdown]
# # Figure 4: averages of a class, before and after classification
#
# One subtomogram shows little more than a shadow. Turn many of the same complex onto each other, and their mean shows
# its shape; turn many of different complexes onto each other, and the mean is of nothing. The paper therefore averages
# what its network assigned to the proteasome and compares the resolution with that of the *original subtomograms before
# classification*. These words can be read in two ways, so both are shown: one particle by itself, and an average of the
# particles that were to be classified.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # of the simulated data, ratios of variances
n_shot = 5  # labelled subtomograms per class
n_particles = 0  # at most so many in each average; 0 takes the profile's
turnable = "noble stand-in"  # average after classification that can be turned: as the rows are named

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown
from studies import averages_figure as figure4
from studies.averages import average_frame, planned, true_density

from cryo_fewshot.errors import UserError
from cryo_fewshot.figures.style import use_style
from cryo_fewshot.figures.volumes import isosurface, turnable_html
from cryo_fewshot.reproduction.cells import surrogate, table_1, table_4
from cryo_fewshot.reproduction.display import provenance_line
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.simulation.density import protein_level

use_style()
settings, runner = profile_named(profile), open_runner(profile)
cells = {
    f"SNR {snr:g}": table_1(settings, snrs=[snr], shots=[n_shot], methods=["ProtoNet-CE"])[0]
    for snr in numbers("snrs", snrs, float)
}
for recipe in (surrogate("noble", settings), surrogate("guo", settings)):
    cells[recipe.class_set] = table_4(settings, recipe, shots=[n_shot], methods=["ProtoNet-CE"])[0]
if turnable not in cells:
    raise UserError(f"turnable '{turnable}' is none of the data sets: use one of {', '.join(cells)}")
plans = {name: planned(settings, cell.evaluation, n_particles) for name, cell in cells.items()}
entries = {name: [runner(spec) for spec in specs] for name, specs in plans.items()}
words = []
for name, (spec, *_) in plans.items():
    data, ways = spec.evaluation.novel_data, entries[name][0]["result"]["classes"]
    words.append(
        f"{name}: {spec.target} at SNR {spec.evaluation.snr:g} among {', '.join(ways)}, {data.microscope.box}³ voxels "
        f"of {data.microscope.voxel_size_nm:g} nm"
    )
Markdown(
    f"**Protocol.** The first {n_shot}-shot test task that asks for the class; ProtoNet-CE of profile {profile} "
    f"assigns all other test subtomograms of its classes. At most {spec.n_particles} particles per average, poses "
    f"unknown. {'; '.join(words)}."
)

# %% [markdown]
# Where the simulated data have no proteasome among their test classes, GroEL (1OEL), a barrel of much the same size,
# takes its place. The two real sets are stand-ins as in {doc}`table4`: the proteasome of 1PMA for Noble's, and the
# double-capped 26S proteasome for Guo's. Where its single-capped relative is in the same task, even the mixture is
# mostly of proteasomes.
#
# ## What the averages show

# %% tags=["hide-input"] mystnb={"image": {"alt": "Middle slices of one particle, the averages, and the true density"}}
truths, masses, voxels = {}, {}, {}
for name, (spec, *_) in plans.items():
    data = spec.evaluation.novel_data
    truths[name] = true_density(data, spec.target)[0].numpy()
    masses[name] = float(data.beads_of(spec.target, data.sample_seeds(spec.target, 1.0, count=1))[0][1].sum())
    voxels[name] = data.microscope.voxel_size_nm
sets = {name: figure4.densities(entries[name], truths[name]) for name in plans}
figure4.slices_by_set(sets, voxels);

# %% [markdown]
# A slice through the middle of each, protein dark, the complex upright. **One particle** of the class, turned upright
# by the pose that only the simulation knows. **Before**: an average of particles of all classes of the task. **After**:
# of those that the network assigned to the class, its mistakes included. **No mistakes**: of particles that truly are
# of the class, for comparison. **Simulated**: the density that all of them were made from. The averages know neither
# poses nor that density; they were only laid onto it at the end. They are cut out by a sphere of 0.4 of the box, so the
# tips of the 26S proteasome fade. Each picture has its own grey scale.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Isosurfaces of the averages and of the simulated density"}}
weighted = {name: figure4.weighted_densities(entries[name], truths[name]) for name in plans}
figure4.surfaces_by_set(weighted, voxels, masses);

# %% [markdown]
# The same as surfaces that enclose the volume of so much protein; colour is the distance from the centre. Detail in
# which the two halves of an average disagree (see below) is weighted down. The complex after classification, to be
# turned with mouse or finger (in the book; it needs JavaScript):

# %% tags=["hide-input"]
volume = -weighted[turnable].get("assigned", truths[turnable])  # protein is dark
level = protein_level(volume, masses[turnable], voxels[turnable])
HTML(turnable_html(isosurface(volume, level, voxels[turnable]), "figure4-after"))

# %% [markdown]
# ## How far they can be trusted
#
# The Fourier shell correlation compares two densities detail by detail, from coarse (left) to fine (right): 1 where
# they agree, 0 where they have nothing in common. On the left, two averages of one half of the particles each, made
# independently; where they fall below 0.143 is the resolution that a microscopist would report. On the right, the
# whole average and the density that was simulated; here the usual limit is 0.5. Real data have only the left.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fourier shell correlation of half maps, and with the true density"}}
figure4.fsc_figure(entries);

# %% tags=["hide-input"]
table = average_frame(entries)
figure4.show_averages(table)

# %% [markdown]
# Resolution where the correlation falls below 0.143 and 0.5; smaller is finer, *none* means below from the start. One
# particle has no halves; its number is from the median correlation of as many particles as an average has. The paper
# gives its resolutions as a picture only: not quoted.

# %% tags=["hide-input"]
everything = [entry for of_set in entries.values() for entry in of_set]
Markdown(f"**To conclude.** {figure4.averaging_findings(table)}\n\n**Provenance.** {provenance_line(everything)}")

# %% [markdown]
# **Read it with care.** Half maps say how well an average repeats itself, not what it is of: particles of several
# classes can agree on a common blob. Each number is from one task, one draw of particles and one search, so differences
# of a few tenths of a nanometre mean nothing. A number is where a curve first falls below the limit, even if it only
# just does and rises again, as some of the averages before classification do. The density was simulated to 4 nm, with
# nothing at all beyond 3.6 nm: numbers a little below that come from reading between shells. The CTF is not corrected
# and no symmetry is imposed. The task holds equal numbers of each class; in a cell the class of interest may be a few
# percent of all, and what is assigned to it less pure.

# %% tags=["nbval-check-output", "hide-cell"]
print(table.round(2).to_csv(index=False))
