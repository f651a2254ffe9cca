# %% [markdown]
# # Figure 3: the network
#
# The paper's Figure 3 is a drawing of ProtoNet-CE. This one is read off the modules that the package trains: a volume
# passes through them, and every shape and number below is measured on the way.

# %% tags=["parameters"]
box = 40  # edge of the cubic input, voxels
n_blocks = 4  # convolution blocks; each halves the edge
width = 64  # channels of a block
n_way = 5  # classes of an episode

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown

from cryo_fewshot.adaptation import Adaptation
from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.figures.network import architecture_figure, stages_table, trace_adaptation, trace_encoder
from cryo_fewshot.figures.style import use_style

use_style()
encoder = Encoder3D(box, n_blocks, width)
encoder_stages = trace_encoder(encoder)
adaptation_stages = trace_adaptation(Adaptation(encoder.embedding_dim), n_way)
Markdown(
    f"**Protocol.** Input of {box}³ voxels, {n_blocks} blocks of {width} channels, embedding of "
    f"{encoder.embedding_dim} numbers; {n_way}-way episodes, one query at a time."
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "The encoder, and below it the attention"}}
architecture_figure(encoder_stages, adaptation_stages, n_way);

# %% [markdown]
# **Above,** the encoder. A volume (grey) passes through blocks of 3D convolution, batch normalisation, max pooling over
# 2×2×2 voxels, and ReLU. The cubes are the outputs: *64 × 20³* is 64 maps of 20×20×20 voxels. (A front edge is drawn as
# the square root of the voxels along it, the depth as the logarithm of the number of maps.) The last output, flattened,
# is the embedding. Below each block stand its trained weights and its multiply-adds; M is a million. The paper puts
# ReLU before the pooling; in this order the result is exactly the same, and cheaper to compute.
#
# **Below,** an episode. The prototypes c (each the mean embedding of the labelled examples of a class) and the
# embedding f(x) of a query pass through self-attention (orange; query Q, key K, value V) and a fully connected layer
# (FC); what comes out is added to them. Under the name of a layer stands the number of its trained weights, elsewhere
# the shape of the output. The distances from the query to the prototypes are taken before and after (green), and added;
# the nearest class is the prediction. Without the orange part this is ProtoNet3D. {doc}`../methods` has the equations.

# %% [markdown]
# ## Layer by layer

# %% tags=["hide-input"]
HTML(stages_table(encoder_stages).to_html(index=False, border=0))

# %% tags=["hide-input"]
HTML(stages_table(adaptation_stages).to_html(index=False, border=0))

# %% [markdown]
# Multiply-adds are for one volume or one episode with one query; only convolutions and matrix products are counted.

# %% tags=["hide-input"]
parameters = sum(stage.parameters for stage in encoder_stages)
work = sum(stage.multiply_adds for stage in encoder_stages)
heaviest = max(encoder_stages, key=lambda stage: stage.multiply_adds)
assert parameters == sum(parameter.numel() for parameter in encoder.parameters())
print(f"{heaviest.name} alone takes {heaviest.multiply_adds / work:.0%} of the encoder's work")
if (box, n_blocks, width) == (40, 4, 64):
    verdict = "the same" if parameters == 334_272 and round(work / 1e9, 2) == 1.12 else "NOT the same"
    print(f"the paper's encoder has 334,272 parameters and takes about 1,120 million multiply-adds: {verdict}")

# %% [markdown]
# **To conclude.** The encoder does nearly all of the work, most of it in one layer. The attention has three times as
# many weights but costs almost nothing: it handles a few vectors, and can be trained on embeddings computed once.
