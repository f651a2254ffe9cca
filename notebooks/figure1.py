# %% [markdown]
# # Figure 1: one task, from subtomograms to the decision
#
# The paper's Figure 1 is a drawing of the method. This is the method at work: one task with three classes that the
# network was not trained on, three labelled subtomograms of each, and one query.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick, cpu or paper
snr = 0.1  # ratio of variances, signal to noise
n_way = 3  # classes of the task
n_shot = 3  # labelled subtomograms per class
number = 0  # which of the test tasks
query = 0  # which of its queries, counted class by class

# %% tags=["hide-input"]
from dataclasses import replace

from IPython.display import Markdown
from studies.episode_figure import episode_figure
from studies.views import EpisodeView, sample_volume

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import Page, complex_label, complex_name

page = Page(profile)
cell = table_1(page.settings, snrs=[snr], shots=[5], methods=["ProtoNet-CE"])[0]
evaluation = replace(cell.evaluation, n_way=n_way, n_shot=n_shot)
view = page.runner(EpisodeView(evaluation=evaluation, number=number, query=query))["result"]
names = [complex_name(key) for key in view["classes"]]
Markdown(
    f"**Protocol.** {n_way}-way {n_shot}-shot task number {number} at SNR {snr:g}: "
    f"{', '.join(names)}. Query {query} is of {names[view['right']]}. Encoder "
    f"and attention were trained 5-way 5-shot; profile {profile}."
)

# %% tags=["hide-input"]
supports = [
    [sample_volume(evaluation, name, sample) for sample in samples]
    for name, samples in zip(view["classes"], view["support"], strict=True)
]
shown = view | {"classes": [complex_label(name, 14) for name in view["classes"]]}
episode_figure(shown, supports, sample_volume(evaluation, view["classes"][view["right"]], view["query"]));

# %% [markdown]
# **Top.** The middle slice of each labelled subtomogram, a row per class, and of the query. **Middle.** Their
# embeddings, projected onto the two directions in which they spread most: dots are labelled subtomograms, stars the
# prototypes (their means), the diamond is the query. On the right, the attention has adapted prototypes and query to
# this task. **Bottom.** The squared distance from the query to each prototype in both spaces, and the sum of the two,
# taken in all dimensions. The shortest bar, outlined, is the prediction.

# %% tags=["hide-input"]
plain, adapted = view["plain"]["distances"], view["adapted"]["distances"]
total = [d + d_star for d, d_star in zip(plain, adapted, strict=True)]
distances = {"d": plain, "d*": adapted, "d + d*": total}
nearest = ", ".join(f"{names[values.index(min(values))]} by {name}" for name, values in distances.items())
Markdown(f"The query is of {names[view['right']]}. Nearest: {nearest}.")
