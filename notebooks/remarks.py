# %% [markdown]
# # More classes per training episode, and time
#
# ## Remark 2: train on more classes than are tested
#
# At this short length of training, episodes of ten classes instead of five raise 1-shot accuracy by more than two
# standard errors, and leave 5-shot accuracy unchanged. The paper trains on episodes with as many classes as the test
# has, and remarks that more may help. Here ProtoNet3D is trained on episodes of 5, 8 and 10 classes and always tested
# on 5.

# %% tags=["parameters"]
profile = "extended"  # smoke or extended
snrs = "0.1"  # ratios of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
ways = "5,8,10"  # classes per training episode
seeds = 3  # training seeds, from 0 on

# %% tags=["hide-input"]
from studies.transfer import study_protocol, training_ways, variations_frame

from cryo_fewshot.reproduction.display import Page, plain_style
from cryo_fewshot.reproduction.profiles import numbers
from cryo_fewshot.reproduction.tables import by_task, keep_table, mean_over_seeds

page = Page(profile)
choice = {"snrs": numbers("snrs", snrs, float), "shots": numbers("n_shot", n_shot, int)}
variations = training_ways(page.settings, ways=numbers("ways", ways, int), seeds=range(seeds), **choice)
study_protocol(page, variations)

# %% tags=["hide-input", "nbval-check-output"]
entries = page.runner.run(variation.evaluation for variation in variations)
by_seed = variations_frame(variations, entries)
keep_table(by_seed, "training_ways")
frame = mean_over_seeds(by_seed, "trained_on", "n_shot", "snr")
shown = frame.assign(shown=[f"{row.accuracy:.3f} ±\u00a0{row.error:.3f}" for row in frame.itertuples()])
plain_style(by_task(shown, "trained_on", "shown"))

# %% [markdown]
# Mean over training seeds and its standard error. All trainings have the same number of episodes, so more classes also
# mean more volumes seen, and more time.
#
# ## Remark 3: time per subtomogram
#
# The paper states about 0.2 s for the prediction of one 40³ subtomogram on a CPU. {doc}`speed` says how long this
# package takes.
