"""What callers rely on without writing it: defaults of arguments, constants, frozen classes, arguments by name alone.

They were chosen on data or are promised to users, so that a change is a decision and never a slip:
`python tests/test_interface.py` writes interface.txt anew, and its diff says what is different now.
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from numbers import Number
from pathlib import Path

import numpy as np

import cryo_fewshot

PACKAGE = Path(cryo_fewshot.__file__).parent
STORED = Path(__file__).with_name("interface.txt")
MODULES = [
    path.relative_to(PACKAGE).with_suffix("")
    for room in ("", "averaging", "particles", "recognition")
    for path in sorted((PACKAGE / room).glob("*.py"))
    if not path.stem.startswith("__")
]


def is_plain(value) -> bool:
    """Numbers and texts, and rows of them."""
    if isinstance(value, dict):
        return is_plain([*value, *value.values()])
    if isinstance(value, (tuple, list, np.ndarray)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (str, Number))


def defaults(call) -> str:
    """Arguments that need not be given, and a * before those that are given by name alone."""
    words, parameters = [], inspect.signature(call).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        if parameter.default is not parameter.empty:
            words.append(f"{parameter.name}={parameter.default if is_plain(parameter.default) else '...'!r}")
    return f"({', '.join(words)})" if words else ""


def lines_of(module) -> Iterator[str]:
    """What stands in a module itself, of each public name of which there is something to say."""
    source = inspect.getsource(module)
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if name.isupper() and is_plain(value) and re.search(rf"^(\w+, )*{name}\b.* = .*\d", source, re.MULTILINE):
            yield f"{name} = {value.tolist() if isinstance(value, np.ndarray) else value!r}"
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) and (said := defaults(value)):
            yield name + said
        elif dataclasses.is_dataclass(value):
            frozen = "frozen " if value.__dataclass_params__.frozen else ""
            yield f"{frozen}class {name}{defaults(value)}"
        if inspect.isclass(value):
            for method in filter(inspect.isfunction, vars(value).values()):
                if method.__name__[:1] != "_" and (said := defaults(method)):
                    yield f"{name}.{method.__name__}{said}"


def written() -> str:
    modules = {path.as_posix(): importlib.import_module(".".join(["cryo_fewshot", *path.parts])) for path in MODULES}
    return "".join(f"{path}: {line}\n" for path, module in modules.items() for line in lines_of(module))


def test_defaults_and_constants_are_what_they_were():
    assert written().splitlines() == STORED.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    STORED.write_text(written(), encoding="utf-8")
