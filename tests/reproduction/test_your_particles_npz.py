"""Numpy archives in the browser: read, labelled and refused as in the package."""

import io

import numpy as np
import pytest

from cryo_fewshot.particles.opening import open_particles


def noise(n: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, n, n, n))


def npz(save=np.savez, **arrays) -> bytes:
    with io.BytesIO() as file:
        save(file, **arrays)
        return file.getvalue()


def test_an_archive_is_read_as_in_the_package(in_page, tmp_path):
    volumes = noise(16, 3)
    files = {
        "doubles.npz": npz(volumes=volumes, labels=np.array(["80S", "none", "é "]), voxel_size_nm=2.5),
        "packed.npz": npz(
            np.savez_compressed, voxel_size_nm=[2.0], volumes=(volumes * 999).astype(">i2"), labels=[3, 1, 2]
        ),
        "bytes.npz": npz(volumes=volumes.astype(np.float32), voxel_size_nm=2, labels=np.array([b"a", b"", b"nan"])),
    }
    found = in_page(
        files,
        """const encoder = await openEncoder(), tools = volumeTools(encoder), found = [];
        for (const {file, path} of files) {
            const {particles} = await settled(particlesOfArchive(file, path)), {layout, blob, from, to} = particles[2];
            const bytes = await settled(blob.slice(from, to).arrayBuffer());
            const resampled = tools.resampled(tools.decoded(bytes, layout), layout, encoder.voxel_size_nm);
            found.push([particles.map(({name, label}) => [name, label ?? null]), [...resampled]]);
        }
        return found;""",
    )
    for (name, content), (named, resampled) in zip(files.items(), found, strict=True):
        (tmp_path / name).write_bytes(content)
        particles = open_particles(tmp_path / name, dark_protein=True)
        assert named == [list(pair) for pair in zip(particles.names, particles.labels, strict=True)]
        assert resampled == pytest.approx(particles.read([2], 20, 2.0)[0].flatten().tolist(), abs=1e-5), name


def test_archives_that_are_refused(in_page):
    volumes = noise(8, 2)
    whole = npz(volumes=volumes, voxel_size_nm=2.0)
    files = {
        "other.npz": (npz(data=volumes), "no array volumes in it"),
        "flat.npz": (npz(volumes=volumes[:, :5], voxel_size_nm=2.0), "(n, box, box, box)"),
        "order.npz": (npz(volumes=np.asfortranarray(volumes), voxel_size_nm=2.0), "in the order of C"),
        "complex.npz": (npz(volumes=volumes + 1j, voxel_size_nm=2.0), "volumes are c16"),
        "nosize.npz": (npz(volumes=volumes), "states no voxel size"),
        "labels.npz": (npz(volumes=volumes, voxel_size_nm=2.0, labels=["a"]), "1 labels for 2 volumes"),
        "cut.npz": (whole[: len(whole) // 2], "not a whole npz"),
    }
    found = in_page(
        {name: content for name, (content, _) in files.items()},
        """const found = {};
        for (const {file, path} of files) {
            found[path] = await settled(particlesOfArchive(file, path).then(() => "read", error => error.message));
        }
        return found;""",
    )
    for name, (_, words) in files.items():
        assert words in found[name], name


def test_labels_of_an_archive_are_those_of_the_page(in_page):
    content = npz(volumes=noise(20, 12), labels=["a", "b", "nan"] * 4, voxel_size_nm=2.0)
    found = in_page(
        {"all.npz": content},
        """const page = startYourParticles(document.getElementById("your-particles"));
        await settled(page.add(files));
        return [page.state.names, [...page.state.labels], page.state.answer.particles.length];""",
    )
    labels = [[i, i % 3] for i in range(12) if i % 3 < 2]
    assert found == [["a", "b"], labels, 12]
