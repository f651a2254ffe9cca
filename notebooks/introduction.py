# %% [markdown]
# # Recognising macromolecules from a handful of examples
#
# A tomogram of a cell shows thousands of molecular machines, each a faint shape in heavy noise. Label five of a kind,
# and a network that has learned on other complexes *what makes two particles alike* finds the rest. Li et al.
# {cite}`li2020` proposed it. This book rebuilds their method from atomic models up, reports which of its claims hold,
# and takes it further.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown
from studies.alike import treated_alike
from studies.claims import conclusions, substitutes_text
from studies.demonstration import Demonstration
from studies.glance import Glance, glance_figure, three_numbers
from studies.pretrained import Pretrained, published_runner

from cryo_fewshot.figures.charts import accuracy_by_snr
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, complex_name
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.tables import stored_at_papers_size, tidy_frame
from cryo_fewshot.weights import load_encoder

page = Page(profile)
pretrained, runner = Pretrained(*load_encoder()), published_runner("extended")
seen = runner(Glance(encoder=pretrained.digest), pretrained)
run = runner(Demonstration(encoder=pretrained.digest))  # as in own_data
names = {key: complex_name(key) for key in seen["spec"]["classes"]}
glance_figure(seen["spec"], seen["result"], run["result"]["averages"], names);

# %% [markdown]
# Rings mark labelled particles. Each dot is the embedding of one particle. A star is the *prototype* of a class, the
# mean of its five labelled particles; every other particle goes to the class of the nearest star. The picture was made
# with this project: simulated particles, the encoder that comes with the package, and averages that `classify` wrote.

# %% tags=["hide-input"]
cells = table_1(page.settings)
entries = page.runner.run_cells(cells)
table = tidy_frame(cells, entries)
HTML(three_numbers(table, pretrained.card["expected_accuracy"], run))

# %% [markdown]
# ::::{grid} 1 3 3 3
# :gutter: 2
#
# :::{grid-item-card} Read
# :link: ../methods
# :link-type: doc
# The method and its equations, then every table and figure. Or {doc}`play with it <label_five>`.
# :::
#
# :::{grid-item-card} Reproduce
# :link: ../reproduce
# :link-type: doc
# One command runs everything; one runs a single table with your settings.
# :::
#
# :::{grid-item-card} Use on your particles
# :link: own_data
# :link-type: doc
# `cryo-fewshot classify` takes STAR files, MRC folders or tomograms, and needs no training. Or {doc}`drop a few MRC
# files into your browser <../your_particles>`.
# :::
# ::::
#
# ## What can be concluded about the paper

# %% tags=["hide-input"]
conclusions()

# %% tags=["hide-input"]
Markdown(substitutes_text())

# %% [markdown]
# Most of these differences come from length of training and choice of rates. With the same care for every method, at
# 20³ and SNR 0.1 ({doc}`alike_for_all`):

# %% tags=["hide-input"]
treated_alike()

# %% [markdown]
# ## The paper's main experiment
#
# Table 1 as a figure, at the paper's own size: five methods, with five labels per class or one, at three noise levels.
# {doc}`table1` has every number, {doc}`claims` what the paper says beside it, number by number.

# %% tags=["hide-input"]
at_hand, full_size_entries = stored_at_papers_size(table_1(profile_named("paper")))
full_size = tidy_frame(at_hand, full_size_entries) if at_hand else table
accuracy_by_snr(full_size[full_size["n_episodes"] == full_size["n_episodes"].max()]);

# %% [markdown]
# ## How to read on
#
# - {doc}`label_five`: label particles yourself, and watch two networks sort the rest; {doc}`../your_particles`: with
#   MRC files of yours.
# - {doc}`../methods`: the method and its eight equations. {doc}`../microscope`: how a particle is simulated, and what
#   SNR means here. {doc}`../vocabulary`: the terms of both fields.
# - {doc}`table1`: the main table with every interval; {doc}`bounds`: how hard the data are; {doc}`intervals`: what an
#   interval covers.
# - {doc}`ablation`: what makes the pretrained encoder better, one change at a time; {doc}`open_world`: unknown classes,
#   more classes, more labels; {doc}`real_particles`: particles of a real tomogram; {doc}`peers`: template matching and
#   others on the same tasks.
# - {doc}`../deviations`: where the paper's text and its released code differ, and what this book does.
# - {doc}`status`: which machine computed what, and when.
