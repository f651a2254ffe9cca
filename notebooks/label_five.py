# %% [markdown]
# # Label five, and watch
#
# Four hundred simulated particles: five complexes that you may label, and three that stand for what nobody expected.
# Neither network was trained on any of the eight. Choose a complex, mark one to five particles of it, go on to the
# next. Your browser classifies the others at once.

# %% tags=["parameters"]
store = "cpu"  # folder of results

# %% tags=["hide-input"]
import json

from IPython.display import HTML, Markdown
from studies.label_five import LabelFive, PlayedParticles, PlayedProtoNet, expected_frame

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.hashing import digest_of, spec_digest
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import complex_name, plain_style, provenance_line
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder

pretrained, card = load_encoder()
protonet = table_1(profile_named(store), snrs=[0.1], shots=[5], methods=["ProtoNet3D (mix)"])[0].evaluation.encoder
played = PlayedProtoNet(particles=PlayedParticles(data=protonet.data), protonet=protonet)
spec = LabelFive(
    encoder=digest_of(*pretrained.state_dict().values()), protonet=played, calibration=spec_digest(card["calibration"])
)
runner = Runner(Store(REPOSITORY / "results" / store))
entry = runner(spec, pretrained, Calibration.from_json(card["calibration"]))
result = entry["result"]
by_snr = {snr: result["snrs"][snr] for snr in sorted(result["snrs"], key=float, reverse=True)}
result |= {"snrs": by_snr, "names": [complex_name(key) for key in result["classes"]]}
page = json.dumps(dict(sorted(result.items())))
HTML(
    '<div id="label-five">This part needs the book in a browser with JavaScript.</div>'
    f'<script type="application/json" id="label-five-data">{page}</script>'
)

# %% [markdown]
# **How to play.** A click on a particle gives it the chosen complex; a second click takes the label back. By keyboard:
# tab to a particle, then press 1 to 5. The picture beside a name shows one particle of that complex without noise; each
# particle is shown as the mean of its five middle slices, and lies in an orientation of its own. At SNR 0.1 some can be
# told by eye; where not, let an expert label, and watch what the networks do with right labels, or with your wrong
# ones.
#
# **What is computed.** The embeddings were computed beforehand by the package. The browser does the rest as the package
# does: ProtoNet3D takes the nearest prototype; the pretrained encoder uses PLDA, and rejects what falls below the
# threshold of a 5 % false-positive rate. A test compares both with the package.
#
# ## The same in numbers
#
# Accuracy on particles of the five complexes, and the share that is accepted, with right labels drawn at random: means
# over 40 draws. At most 5 % of unknown ones are promised to be accepted; the price is that many known ones are left to
# you. {doc}`open_world` says when the promise holds.

# %% tags=["hide-input"]
rates = ["ProtoNet3D", "Pretrained", "Accepted of known", "Accepted of unknown"]
plain_style(expected_frame(result)).format("{:.0%}", subset=rates).hide(axis="index")

# %% tags=["hide-input"]
Markdown(
    f"{played.particles.n_per_class} particles of each of {', '.join(map(complex_name, result['classes']))}; boxes of "
    f"{protonet.data.box}³ voxels of {protonet.data.voxel_size_nm:g} nm. The {played.n_axes} principal axes that are "
    f"kept of ProtoNet3D's embeddings hold {result['protonet_variance']:.0%} of their variance. "
    f"{provenance_line([entry])}"
)
