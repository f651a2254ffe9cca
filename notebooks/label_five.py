# %% [markdown]
# # Label five, and watch
#
# Four hundred simulated particles: of five complexes that you can label, and of three more that stand for the
# unexpected. Neither network was trained on any of the eight. Choose a complex, mark one to five particles of it, and
# go on to the next. Your browser classifies all others at once.

# %% tags=["parameters"]
store = "cpu"  # folder of results

# %% tags=["hide-input"]
import json

from IPython.display import HTML, Markdown
from studies.label_five import LabelFive, PlayedParticles, PlayedProtoNet
from studies.pretrained import Pretrained, published_runner

from cryo_fewshot.hashing import spec_digest
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import complex_name
from cryo_fewshot.reproduction.profiles import profile_named

pretrained = Pretrained.load()
protonet = table_1(profile_named(store), snrs=[0.1], shots=[5], methods=["ProtoNet3D (mix)"])[0].evaluation.encoder
played = PlayedProtoNet(particles=PlayedParticles(data=protonet.data), protonet=protonet)
calibration = spec_digest(pretrained.card["calibration"])
spec = LabelFive(encoder=pretrained.digest, protonet=played, calibration=calibration)
result = published_runner(store)(spec, pretrained)["result"]
by_snr = {snr: result["snrs"][snr] for snr in sorted(result["snrs"], key=float, reverse=True)}
result |= {"snrs": by_snr, "names": [complex_name(key) for key in result["classes"]]}
data = json.dumps(dict(sorted(result.items())))
HTML(
    '<div id="label-five">This part needs the book in a browser with JavaScript.</div>'
    f'<script type="application/json" id="label-five-data">{data}</script>'
)

# %% [markdown]
# **How to play.** Click a particle to label it as the chosen complex; click it again to take the label back. By
# keyboard: tab to a particle, then press 1 to 5. The picture beside a name shows one particle of that complex without
# noise. Each particle is shown as the mean of its five middle slices, and each lies in an orientation of its own. At
# SNR 0.1 some can be told by eye. Where you cannot, let an expert label: see what the networks do with right labels,
# and what with wrong ones.
#
# **What is computed.** The package computed the embeddings beforehand. The browser does the rest as the package does:
# ProtoNet3D takes the nearest prototype; the pretrained encoder uses PLDA, and rejects particles below the threshold
# for a false-positive rate of 5 %. A test compares both with the package.
#
# **Your own particles.** {doc}`../your_particles` takes your MRC files instead of these, and sends none anywhere.
#
# The promise is that at most 5 % of the unknown particles are accepted; the price is that many known ones are left for
# you to decide: {doc}`encoder_card` has the numbers.

# %% tags=["hide-input"]
Markdown(
    f"{played.particles.n_per_class} particles of each of {', '.join(map(complex_name, result['classes']))}; boxes of "
    f"{protonet.data.box}³ voxels of {protonet.data.voxel_size_nm:g} nm. The {played.n_axes} principal axes that are "
    f"kept of ProtoNet3D's embeddings hold {result['protonet_variance']:.0%} of their variance."
)
