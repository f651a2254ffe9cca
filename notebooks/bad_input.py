# %% [markdown]
# # When input is bad
#
# A damaged particle costs no more than itself: it is listed in `unreadable.csv`, and the rest is classified. A fault
# that concerns the whole input ends the run with exit status 2 and one line that names the file, the value and the
# remedy. To show this, six labelled and eight other particles are damaged in ways that happen in practice, and the
# command of {doc}`own_data` runs on each case while this page is made.

# %% tags=["parameters"]
words = ""  # only what has these words in its description; empty for all

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

from studies.bad_input import damaged_runs

from cryo_fewshot.reproduction.display import plain_style

with tempfile.TemporaryDirectory() as folder:
    table = damaged_runs(Path(folder), words)
plain_style(table).hide(axis="index")

# %% [markdown]
# - Nothing is printed where nothing is wrong: names in any script, Windows line ends, and a project that was moved (the
#   end of the old path is looked for beside the STAR file and in the folders above it).
# - A path with `..` is followed, as in RELION. Results go only into the output folder, whatever particles and classes
#   are called. `/proc` stands for a disk that cannot be written to; on a full disk no half-written file is left behind.
# - No file is ever unpickled: an encoder is a safetensors file with its card, and anything else is refused unread.

# %% tags=["nbval-check-output", "hide-cell"]
print(table[["What was wrong", "Exit status", "What was classified"]].to_csv(index=False))
