# %% [markdown]
# # How fast
#
# The package embeds and trains several times faster than plain PyTorch code written from the paper's description.
# Nearly all of the cost is the 3D encoder: 1.12 billion multiply-adds for a 40³ volume, and a hundred volumes in a
# training episode. One run of `make bench` measures the package, that reference, and the machine's own limits.

# %% tags=["parameters"]
machine = ""  # part of a file's name in results/bench; empty for the first

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.speed import agreement_frame, show_agreement, show_speed, speed_figure, speed_frame, speed_text

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.store import results_folder

use_style()
found = sorted(path for path in results_folder("bench").glob("*.json") if machine in path.name)
speed = speed_frame(found[0]) if found else None
Markdown(speed_text(found[0]) if found else "**Not measured.** `make bench` writes what this page shows.")

# %% tags=["hide-input"]
show_speed(speed) if found else None

# %% [markdown]
# Milliseconds for one unit of work: the fastest of several repeats, in a process of its own. "Times faster" is the
# reference's time divided by the package's, in the same run. The error is that of the embeddings, relative to the
# reference's. Streams are volumes that are simulated, embedded and discarded batch by batch; with a stub encoder of one
# block and one channel on 8³, what remains is the cost of everything else.

# %% tags=["hide-input"]
if found:
    speed_figure(speed)

# %% [markdown]
# What makes the difference on a CPU, the largest gain first:
#
# - **Memory that is kept.** The C library returns large buffers to the system and requests them again at every layer.
# - **The first block without its volumes.** The mean and variance of its output, 1.6 GB for a hundred volumes of 40³,
#   follow from the covariance of the patches of 27 voxels that the convolution sees. So batch normalisation is folded
#   into the weights even in training: the same numbers up to rounding.
# - **Channels last**, and **bfloat16** where the processor multiplies it natively.
# - **Folding.** Bias and ReLU come after the pooling, which changes nothing and touches an eighth of the voxels.
# - **Small chunks** that stay in the processor's cache, and **embedding once**: episodes are drawn from stored
#   embeddings.
#
# OpenVINO, an optional engine (`pip install "cryo-fewshot[engine]"`, then `benchmarks/engines.py`), is faster on
# batches and slower on single volumes. Stored results are always those of PyTorch.
#
# ## What rounding changes

# %% tags=["hide-input"]
show_agreement(agreement_frame(found[0])) if found else None

# %% [markdown]
# Accuracy stays the same within two tenths of a point. The same 5-way 5-shot queries at SNR 0.1 are predicted from
# rounded embeddings and from those of plain layers in fp32. Predictions differ for queries that lie about as far from
# one prototype as from the next; an encoder that separates its classes well has few of them.
#
# The GPU path is written and its parts are tested on a CPU. Where the line at the top says that there was no CUDA
# device, it is **unmeasured**.
