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
from studies.speed import agreement_frame, show_agreement, show_speed, speed_frame, speed_text

from cryo_fewshot.figures.charts import speed_figure
from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.store import results_folder

use_style()
found = sorted(path for path in results_folder("bench").glob("*.json") if machine in path.name)
speed = speed_frame(found[0]) if found else None
Markdown(speed_text(found[0]) if found else "**Not measured.** `make bench` writes what this page shows.")

# %% tags=["hide-input"]
show_speed(speed) if found else None

# %% [markdown]
# Milliseconds for one unit of each path: the fastest of several repeats, in a process of its own. "Times faster" is
# the reference's time over the package's, in the same run. The error is that of the embeddings, relative to the
# reference's. Streams are volumes that are made, embedded and forgotten batch by batch; with a stub encoder of one
# block and one channel on 8³, what is left is the cost of everything else.

# %% tags=["hide-input"]
if found:
    speed_figure(speed)

# %% [markdown]
# What makes the difference, in the order of what it brought on a CPU:
#
# - **Memory that is kept.** The C library returns large buffers to the system and asks for them again at every layer;
#   told to keep them, training takes two thirds of the time, and half where batch normalisation holds whole volumes.
# - **The first block without its volumes.** What the first convolution makes of a hundred volumes of 40³ is 1.6 GB, and
#   batch normalisation goes over it many times. But its mean and variance follow from the covariance of the patches of
#   27 voxels that the convolution sees. So the normalisation goes into the weights while training too, and volumes are
#   convolved and pooled a few at a time: the same numbers up to rounding, and training takes a quarter of the memory in
#   fp32.
# - **Channels last.** Convolutions read the channels of a voxel side by side.
# - **bfloat16** where the processor multiplies it natively; weights and optimiser stay in fp32 while training. Pooling
#   stays in bfloat16 too, where PyTorch on a CPU would go back to fp32: the same bits in less time and memory.
# - **Folding.** For inference, batch normalisation goes into the convolution's weights, and bias and ReLU come after
#   the pooling, which changes nothing and touches an eighth of the voxels.
# - **Small chunks**, so that activations of a few volumes stay in the processor's cache.
# - **Embedding once.** Episodes are drawn from stored embeddings, and the attention's distances come from scalar
#   products that are computed for all queries together.
#
# OpenVINO, an optional engine (`pip install "cryo-fewshot[engine]"`, then `benchmarks/engines.py`), brings
# about an eighth more in bfloat16 and rounds less. It is fastest when the second block, which holds most of the
# arithmetic, multiplies integers of eight bits:
# `embed(EightBitEncoder(encoder, some_volumes), ..., engine="openvino")`. Stored results are always those of PyTorch.
#
# ## What rounding changes

# %% tags=["hide-input"]
show_agreement(agreement_frame(found[0])) if found else None

# %% [markdown]
# The same 5-way 5-shot queries, SNR 0.1, each predicted from rounded embeddings and from those of plain layers in fp32.
# Predictions that differ are of queries that lie as far from one prototype as from the next; an encoder that keeps its
# classes apart has few of them. Rounding nothing but the finished embedding of the paper's encoder to bfloat16 already
# changes one to five in a thousand. Accuracy stays the same within two tenths of a point.
#
# The GPU path is written and its parts are tested on a CPU. Where the words above say that there was no CUDA device,
# it is **unmeasured**.
