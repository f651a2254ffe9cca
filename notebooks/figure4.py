# %% [markdown]
# # Figure 4: averages of a class, before and after classification
#
# Averages resolve finer detail after classification than before, as the paper reports. One subtomogram shows little
# more than a shadow; the mean of many aligned ones shows the shape, if they are of the same complex. The paper averages
# what its network assigned to the proteasome and compares the resolution with that of the *original subtomograms before
# classification*. This can be read in two ways, and both are shown: one particle by itself, and an average of the
# particles that were to be classified.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snrs = "0.1,0.05,0.03"  # of the simulated data, ratios of variances
n_shot = 5  # labelled subtomograms per class
n_particles = 0  # at most so many in each average; 0 takes the profile's
turnable = "noble surrogate"  # average after classification that can be turned: as the rows are named

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown
from studies import averages_figure as figure4
from studies.averages import average_frame, planned, true_density

from cryo_fewshot.errors import UserError
from cryo_fewshot.figures.volumes import isosurface, turnable_html
from cryo_fewshot.reproduction.cells import surrogate, table_1, table_4
from cryo_fewshot.reproduction.display import Page, complex_name
from cryo_fewshot.reproduction.profiles import numbers
from cryo_fewshot.simulation.density import protein_level

page = Page(profile)
settings = page.settings
cells = {
    f"SNR {snr:g}": table_1(settings, snrs=[snr], shots=[n_shot], methods=["ProtoNet-CE"])[0]
    for snr in numbers("snrs", snrs, float)
}
for recipe in (surrogate("noble", settings), surrogate("guo", settings)):
    name = recipe.class_set.replace("stand-in", "surrogate")
    cells[name] = table_4(settings, recipe, shots=[n_shot], methods=["ProtoNet-CE"])[0]
if turnable not in cells:
    raise UserError(f"turnable '{turnable}' is none of the data sets: use one of {', '.join(cells)}")
plans = {name: planned(settings, cell.evaluation, n_particles) for name, cell in cells.items()}
entries = {name: [page.runner(spec) for spec in specs] for name, specs in plans.items()}
tasks = [
    f"{name}: {complex_name(spec.target)} at SNR {spec.evaluation.snr:g} among "
    f"{', '.join(map(complex_name, entries[name][0]['result']['classes']))}, {recipe.box}³ voxels of "
    f"{recipe.voxel_size_nm:g} nm"
    for name, (spec, *_) in plans.items()
    for recipe in [spec.evaluation.novel_data.microscope]
]
Markdown(
    f"**Protocol.** The first {n_shot}-shot test task that holds the class; ProtoNet-CE of profile {profile} "
    f"assigns all other test subtomograms of its classes. At most {plans[turnable][0].n_particles} particles per "
    f"average, poses unknown. {'; '.join(tasks)}."
)

# %% [markdown]
# The simulated data have no proteasome among their test classes; GroEL (1OEL), a barrel of much the same size, takes
# its place. Surrogates replace the two real sets, as in {doc}`table4`: the 20S proteasome (1PMA) for the set of Noble
# et al., and the double-capped 26S proteasome for that of Guo et al. Where the single-capped one is in the same task,
# even the mixture is mostly of proteasomes.
#
# ## What the averages show

# %% tags=["hide-input"] mystnb={"image": {"alt": "Middle slices of one particle, the averages, and the true density"}}
sets, voxels = {}, {}
for name, (spec, *_) in plans.items():
    truth = true_density(spec.evaluation.novel_data, spec.target)[0].numpy()
    sets[name] = figure4.densities(entries[name], truth)
    voxels[name] = spec.evaluation.novel_data.microscope.voxel_size_nm
figure4.slices_by_set(sets, voxels);

# %% [markdown]
# A slice through the middle of each, protein dark, the complex upright. **One particle** of the class, turned upright
# by its true pose. **Before**: an average of particles of all classes of the task. **After**: of those that the network
# assigned to the class, its mistakes included. **No mistakes**: of particles that are all of the class, for comparison.
# **Simulated**: the true density. The averages were made without knowledge of the true poses and density, and were only
# aligned to that density at the end. A sphere with a radius of 0.4 of the box masks them, so the tips of the 26S
# proteasome fade. Each picture has its own grey scale.
#
# The average after classification as a surface that encloses the volume of the complex's mass, to be turned with mouse
# or finger (in the book; it needs JavaScript); colour is the distance from the centre:

# %% tags=["hide-input"]
spec = plans[turnable][0]
data = spec.evaluation.novel_data
mass_kda = data.beads_of(spec.target, data.sample_seeds(spec.target, 1.0, count=1))[0][1].sum()
volume = -sets[turnable].get("assigned", sets[turnable]["truth"])  # protein is dark
level = protein_level(volume, float(mass_kda), voxels[turnable])
HTML(turnable_html(isosurface(volume, level, voxels[turnable]), "figure4-after"))

# %% [markdown]
# ## How far they can be trusted
#
# The Fourier shell correlation compares two densities from coarse detail to fine: 1 where they agree, 0 where they have
# nothing in common. Left: two averages of one half of the particles each, made independently; a microscopist reports
# where they fall below 0.143. Right: the whole average and the true density, limit 0.5. Real data have only the left.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fourier shell correlation of half maps, and with the true density"}}
figure4.fsc_figure(entries);

# %% tags=["hide-input", "nbval-check-output"]
table = average_frame(entries)
figure4.show_averages(table)

# %% [markdown]
# Resolution is where the correlation first falls below 0.143 and 0.5; *none* means that it is below from the start.
# Purity and recall are of everything that was assigned to the class. The number of a single particle is from the median
# correlation of as many as an average has. The paper shows its resolutions only in a picture: they are not quoted.

# %% tags=["hide-input"]
Markdown(f"**To conclude.** {figure4.averaging_findings(table)}")

# %% [markdown]
# **Limits.** Half maps say how well an average repeats itself, not what it shows: particles of several classes can
# agree on a common blob. Each number is from one task, one draw of particles and one search, so differences of a few
# tenths of a nanometre mean nothing. The density was simulated to 4 nm: numbers below 3.6 nm come from interpolation
# between shells. The CTF is not corrected and no symmetry is imposed. The task holds equal numbers of each class; in a
# cell what is assigned to a rare class is less pure.
