# %% [markdown]
# # Tilt range and tilt increment
#
# A wider tilt range helps, and an increment of 10 degrees costs accuracy. A network that is tested on another geometry
# than it was trained on loses little; it loses most if it was trained on the poorest one. A tilt series covers only
# some directions; the rest is the missing wedge, whose influence the paper leaves as a question for later. Here
# ProtoNet3D is trained on subtomograms of one geometry and tested on the same or another: molecules, poses and SNR are
# the same, only the tilt angles differ.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snr = 0.1  # ratio of variances, signal to noise
n_shot = 5  # labelled subtomograms per class
seeds = 3  # training seeds, from 0 on

# %% tags=["hide-input"]
from studies import transfer

from cryo_fewshot.reproduction.display import Page
from cryo_fewshot.reproduction.tables import keep_table

page = Page(profile)
choice = {"snr": snr, "n_shot": n_shot, "seeds": range(seeds)}
ranges = transfer.tilt_geometries(page.settings, transfer.TILT_RANGES, **choice)
increments = transfer.tilt_geometries(page.settings, transfer.TILT_INCREMENTS, **choice)
transfer.study_protocol(page, ranges)

# %% [markdown]
# ## Tilt range, at an increment of 3 degrees

# %% tags=["hide-input", "nbval-check-output"]
range_entries = page.runner.run(variation.evaluation for variation in ranges)
by_range = transfer.variations_frame(ranges, range_entries)
keep_table(by_range, "tilt_ranges")
transfer.transfer_table(by_range)

# %% [markdown]
# ## Tilt increment, at a range of ±60 degrees

# %% tags=["hide-input", "nbval-check-output"]
increment_entries = page.runner.run(variation.evaluation for variation in increments)
by_increment = transfer.variations_frame(increments, increment_entries)
keep_table(by_increment, "tilt_increments")
transfer.transfer_table(by_increment)

# %% [markdown]
# Accuracies are means over training seeds; differences of a point or two are within their standard errors. The SNR is
# that of the finished volume, so here a wider range or a finer increment adds directions, not electrons. At a fixed
# dose a finer increment also means noisier images, which this page does not vary.
