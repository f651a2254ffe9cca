# %% [markdown]
# # Figure 2: a molecule, and what the microscope leaves of it
#
# The paper's Figure 2 shows the structure of ferritin and slices of one simulated subtomogram of it at each noise
# level. This is the same, from beads of apoferritin to the volumes that the networks are trained on.

# %% tags=["parameters"]
class_name = "4V1W"  # key of a complex; 4V1W (horse apoferritin) stands for 1LB3
snrs = "0.1,0.05,0.03"  # ratios of variances, signal to noise
sample = 0  # number within the class; fixes pose, shift, defocus and noise
profile = "paper"  # smoke, quick, cpu or paper: box (voxels), voxel size (nm)

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown

from cryo_fewshot.figures.style import WIDTH, use_style
from cryo_fewshot.figures.volumes import isosurface, isosurface_picture, slices_figure, turnable_html
from cryo_fewshot.reproduction.display import complex_label, complex_name
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.simulation.density import mass_density, protein_level
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import draw_acquisition
from cryo_fewshot.simulation.structures import load_complex

use_style()
levels = numbers("snrs", snrs, float)
recipe = profile_named(profile).data
microscope = recipe.microscope
particle = load_complex(class_name)
seeds = recipe.sample_seeds(class_name, levels[0], start=sample, count=1)
acquisition = draw_acquisition(seeds, microscope)
shift = ", ".join(f"{value:+.1f}" for value in acquisition.shifts_nm[0, ::-1])
Markdown(
    f"**Protocol.** {complex_name(class_name)}, {particle.mass_kda:.0f} kDa, sample {sample}: defocus "
    f"{acquisition.defocus_um[0]:.1f} µm, shift ({shift}) nm along x, y, z; box of {microscope.box}³ voxels of "
    f"{microscope.voxel_size_nm:g} nm; SNR {', '.join(f'{snr:g}' for snr in levels)}."
)

# %% [markdown]
# ## The molecule
#
# Ferritin stores iron in a hollow shell of 24 protein chains about 12 nm across; apoferritin is the shell without the
# iron. The surface encloses the volume of its mass, seen along the electron beam in the orientation of the sample
# below; on the right the near half is cut away. Colour is the distance from the centre. No microscope is involved yet.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Shaded surface of the complex, whole and cut open"}}
voxel_nm = 0.5
radius_nm = np.linalg.norm(particle.positions_nm, axis=1).max()
density = mass_density(
    particle.positions_nm,
    particle.masses_kda,
    box=2 * int(np.ceil((radius_nm + 2) / voxel_nm)),
    voxel_size_nm=voxel_nm,
    quaternion=acquisition.quaternions[0],
)
level = protein_level(density, particle.mass_kda, voxel_nm)
near_half_removed = density.copy()
near_half_removed[len(density) // 2 :] = 0
figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
isosurface_picture(density, level, voxel_nm, f"(a) {complex_label(class_name, 30)},\nas the beam sees it", ax=axes[0])
isosurface_picture(near_half_removed, level, voxel_nm, "cut through the middle", ax=axes[1]);

# %% [markdown]
# The same surface, to be turned with mouse or finger (in the book; it needs JavaScript):

# %% tags=["hide-input"]
HTML(turnable_html(isosurface(density, level, voxel_nm), f"figure2-{class_name}"))

# %% [markdown]
# ## What the network gets
#
# The microscope tilts the frozen specimen and takes one noisy image per angle. The volume computed from these images is
# cut into small cubes, the subtomograms. Each row below is one subtomogram, as slices across the beam at five heights.
# The first row has no noise but everything else that the microscope does: protein is dark, the contrast transfer
# function draws bright and dark rings around it, and because the specimen is not tilted beyond 60 degrees, the particle
# is smeared out along the beam.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Slices of one simulated subtomogram, without noise and at each SNR"}}
beads = [(particle.positions_nm, particle.masses_kda)]
volumes = [simulate(beads, seeds, snr, microscope, acquisition=acquisition)[0].numpy() for snr in [None, *levels]]
titles = ["(b) no noise", *(f"SNR {snr:g}" for snr in levels)]
slices_figure(volumes, titles, microscope.voxel_size_nm);

# %% [markdown]
# All rows show the same particle in the same pose with the same noise, which grows from row to row: at SNR 0.1 the
# noise has ten times the variance of the signal over the cube, at 0.03 thirty-three times ({doc}`../microscope` defines
# it). Heights *z* are measured from the centre of the cube; the particle lies off centre, as picked particles do. The
# grey scale is the same in all rows, and every cube has mean 0 and variance 1, so the first row, without noise, is
# clipped.
#
# **To conclude.** At SNR 0.1 the shell can be made out by eye if one knows where to look; at 0.03, hardly. The network
# knows neither position nor pose, and has to name the class of one such cube, given five labelled cubes of each class,
# or just one.
