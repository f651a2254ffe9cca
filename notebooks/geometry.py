# %% [markdown]
# # Tilt range and tilt increment
#
# A tilt series covers part of all directions; the rest is the missing wedge. The paper names its influence as a
# question for later. Here ProtoNet3D is trained on subtomograms of one geometry and tested on the same or on another:
# same molecules, poses and SNR, only the tilt angles differ.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snr = 0.1  # ratio of variances, signal to noise
n_shot = 5  # labelled subtomograms per class
seeds = 3  # training seeds, from 0 on

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies.charts import transfer_figure
from studies.transfer import TILT_INCREMENTS, TILT_RANGES, study_line, tilt_geometries, transfer_text, variations_frame

from cryo_fewshot.figures.style import use_style
from cryo_fewshot.reproduction.display import provenance_line
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.reproduction.tables import mean_over_seeds

use_style()
settings = profile_named(profile)
runner = open_runner(profile)
ranges = tilt_geometries(settings, TILT_RANGES, snr=snr, n_shot=n_shot, seeds=range(seeds))
increments = tilt_geometries(settings, TILT_INCREMENTS, snr=snr, n_shot=n_shot, seeds=range(seeds))
Markdown(f"**Protocol.** {study_line(ranges, settings)}")

# %% [markdown]
# ## Tilt range, at an increment of 3 degrees

# %% tags=["hide-input"]
range_entries = runner.run(variation.evaluation for variation in ranges)
by_range = mean_over_seeds(variations_frame(ranges, range_entries), "trained_on", "tested_on")
transfer_figure(by_range, "tilt range");
# %% tags=["hide-input"]
Markdown(transfer_text(by_range))

# %% [markdown]
# ## Tilt increment, at a range of ±60 degrees

# %% tags=["hide-input"]
increment_entries = runner.run(variation.evaluation for variation in increments)
by_increment = mean_over_seeds(variations_frame(increments, increment_entries), "trained_on", "tested_on")
transfer_figure(by_increment, "tilt increment");
# %% tags=["hide-input"]
Markdown(transfer_text(by_increment))

# %% [markdown]
# Accuracies are means over training seeds. The SNR is that of the finished volume, so a wider range or a finer
# increment brings directions here, not electrons: at a fixed dose a finer increment also means noisier images, which
# this page does not vary.

# %% tags=["hide-input"]
Markdown(f"**Provenance.** {provenance_line(range_entries + increment_entries)}")

# %% tags=["nbval-check-output", "hide-cell"]
print(by_range.round(3).to_csv(index=False), by_increment.round(3).to_csv(index=False))
