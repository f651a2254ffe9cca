"""RO-Crate 1.1 metadata of the published results: what each file is, for archives and their search engines."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from ..files import write_atomically

_FORMATS = {".parquet": "application/vnd.apache.parquet", ".json": "application/json",
            ".safetensors": "application/octet-stream", ".md": "text/markdown"}  # fmt: skip


def write_crate(results: Path) -> Path:
    """Write `ro-crate-metadata.json` into the folder of published results; returns its path.

    Listed are the files that are published: parquet, what `make bench` measured, trained encoders.
    """
    results = Path(results)
    patterns = ("README.md", "*/*.parquet", "bench/**/*.json", "encoders/*.safetensors", "paper/*.safetensors")
    files = sorted(file for pattern in patterns for file in results.glob(pattern))
    parts, dates = [], [""]
    for file in files:
        content = file.read_bytes()
        part = {
            "@id": file.relative_to(results).as_posix(),
            "@type": "File",
            "name": file.stem,
            "encodingFormat": _FORMATS[file.suffix],
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        if file.suffix == ".parquet":
            run = pd.read_parquet(file, columns=["provenance.date"])["provenance.date"].str[:10].tolist()
            part["description"] = f"{len(run)} results of kind {file.stem}"
            dates += run
        parts.append(part)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Results of cryo_fewshot",
        "description": "Trainings, evaluations and tables of few-shot recognition in cryo-electron tomograms: a row "
        "per result with its settings, seeds, machine and commit",
        "license": "https://spdx.org/licenses/MIT",
        "datePublished": max(dates),
        "hasPart": [{"@id": part["@id"]} for part in parts],
    }
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    graph = ",\n".join(map(json.dumps, (descriptor, root, *parts)))
    path = results / "ro-crate-metadata.json"
    crate = f'{{"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": [\n{graph}\n]}}\n'
    write_atomically(path, crate.encode())
    return path
