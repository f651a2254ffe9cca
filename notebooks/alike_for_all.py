# %% [markdown]
# # All methods treated alike
#
# Three questions decide how methods compare, and none of them is about the method: was each trained until it stopped
# improving, was each tuned with the same care, and was each given the same time? Boxes of 20³, SNR 0.1; one optimiser
# and one schedule for all encoders.

# %% tags=["parameters"]
profile = "finished"  # smoke or finished
snr = 0.1  # ratio of variances, signal to noise
n_shot = "5,1"  # labelled subtomograms per class
epochs = "6,15,30,60"  # of 25 episodes, after which a training is cut
splits = 5  # class splits, from seed 0 on
train = False  # train what is missing; else show what was run

# %% tags=["hide-input"]
from IPython.display import Markdown
from studies import alike

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.reproduction.cells import classifier_heads, linear_fits, second_stages
from cryo_fewshot.reproduction.display import Page, papers_size, plain_style
from cryo_fewshot.reproduction.profiles import numbers, profile_named
from cryo_fewshot.reproduction.tables import keep_table, stored_or_run

page, shots = Page(profile), numbers("n_shot", n_shot, int)


def over_splits(cells_of):
    """Cells of every split that was run, with their entries."""
    cells = [cell for seed in range(splits) for cell in cells_of(page.settings, snr=snr, shots=shots, split_seed=seed)]
    return stored_or_run(page.runner, cells, train)


stages, stage_entries = over_splits(second_stages)
heads, head_entries = over_splits(classifier_heads)
second, fair = alike.against_first(stages, stage_entries), alike.against_first(heads, head_entries)
Markdown(alike.alike_text(second, fair))

# %% tags=["hide-input"]
page.protocol(stages, before="Splits that were run, as in:")

# %% [markdown]
# ## How long training pays
#
# Test accuracy of trainings stopped after a given number of episodes of 100 subtomograms, and of the one that ran until
# 20 epochs in a row brought no gain on the validation classes. The order of the methods changes with the length of the
# training, so a comparison at one short length says little. The baseline's classifier stops improving first.

# %% tags=["hide-input"]
lengths = alike.lengths_frame(
    page.runner, page.settings, epochs=numbers("epochs", epochs, int), snr=snr, shots=shots, run_missing=train
)
keep_table(lengths, "training_length")
lengths["shots"] = lengths["n_shot"].map("{}-shot".format)
curves_figure(
    lengths, x="episodes", curve="method", panel="shots", x_label="training episodes", panel_label="{}", chance=0.2,
    bottom=0.1,
);  # fmt: skip

# %% [markdown]
# ## ProtoNet-CE in its forms
#
# The paper's text freezes the encoder, lets the prototypes attend to all queries of a task together (transductive) and
# trains on the distance in the new space. Its released code attends to one query at a time, adds biases and LayerNorm,
# trains on both distances, and goes on training the encoder. In the tables of this book "ProtoNet-CE" is the text's
# version in its inductive form. The control has no attention at all: ProtoNet3D, trained further for as long as the
# released code's second stage.
#
# Means over the splits; beside each accuracy its paired difference from ProtoNet3D on the same tasks, with the 95 %
# interval over the splits.

# %% tags=["hide-input", "nbval-check-output"]
keep_table(second, "second_stages")
plain_style(alike.methods_table(second))

# %% [markdown]
# ## The baseline, tuned
#
# The baseline's encoder learns to tell the base classes apart. On the labelled particles of a task, the paper fits a
# linear layer with Adam, without giving the number of steps or the rate. Here both are chosen on the validation
# classes. Beside it stands what the few-shot literature knows as a strong simple baseline: the nearest prototype,
# nothing fitted. Differences are from the layer as published.

# %% tags=["hide-input", "nbval-check-output"]
keep_table(fair, "classifier_heads")
plain_style(alike.methods_table(fair))

# %% [markdown]
# The paper leaves the number of steps and the rate open, and much hangs on them. Test accuracy of the linear layer for
# each choice, on the same tasks, mean over the splits; the best of each column group in bold:

# %% tags=["hide-input", "nbval-check-output"]
fit_cells, fit_entries = over_splits(linear_fits)
fits = alike.fits_frame(fit_cells, fit_entries)
keep_table(fits, "linear_fits")
plain_style(alike.fits_table(fits))

# %% [markdown]
# The same encoder at the paper's own size:

# %% tags=["hide-input"]
papers_size(classifier_heads(profile_named("paper"), snr=snr, shots=shots))
