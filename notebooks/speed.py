# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

# %% [markdown]
# # How fast
#
# The cost of this project is one 3D encoder: 1.12 billion multiply-adds for a 40³ volume, and a hundred volumes in a
# training episode. This page measures the package beside a plain reference, what a careful user writes in PyTorch from
# the paper's description, and beside the machine's own limit, all in one run of `make bench`.

# %% tags=["parameters"]
machine = ""  # part of a file's name in results/bench; empty for the first

# %% tags=["hide-input"]
from IPython.display import Markdown

from cryo_fewshot.plots import speed_figure, use_style
from cryo_fewshot.results import results_folder
from cryo_fewshot.speed import show_speed, speed_frame, speed_words

use_style()
found = sorted(path for path in results_folder("bench").glob("*.json") if machine in path.name)
speed = speed_frame(found[0]) if found else None
Markdown(speed_words(found[0]) if found else "**Not measured.** `make bench` writes what this page shows.")

# %% tags=["hide-input"]
show_speed(speed) if found else None

# %% [markdown]
# Milliseconds for one unit of each path: the fastest of several repeats, in a process of its own. "Times faster" is
# the reference's time over the package's, in the same run. The error is that of the embeddings, relative to the
# reference's.

# %% tags=["hide-input"]
if found:
    speed_figure(speed);

# %% [markdown]
# What makes the difference, in the order of what it brought on a CPU:
#
# - **Memory that is kept.** The C library returns large buffers to the system and asks for them again at every layer;
#   told to keep them, training takes about half the time.
# - **Channels last.** Convolutions read the channels of a voxel side by side.
# - **bfloat16** where the processor multiplies it natively; weights and optimiser stay in fp32 while training.
# - **Folding.** For inference, batch normalisation goes into the convolution's weights, and bias and ReLU come after
#   the pooling, which changes nothing and touches an eighth of the voxels.
# - **Small chunks**, so that activations of a few volumes stay in the processor's cache.
# - **Embedding once.** Episodes are drawn from stored embeddings, and the attention's distances come from scalar
#   products that are computed for all queries together.
