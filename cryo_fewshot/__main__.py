"""`python -m cryo_fewshot` is `cryo-fewshot`."""

from .cli import main

main()
