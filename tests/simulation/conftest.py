"""A coordinate file that several tests read."""

import pytest


@pytest.fixture
def small_pdb():
    """Text of a PDB file, by the atoms that each residue has."""

    def text(atoms=("N", "CA", "C")):
        """Eight alanines on the corners of a box of 20 x 10 x 11 A, with a water that must not count."""
        lines, serial = [], 0
        corners = [(20 * (i & 1), 5 * (i & 2), 10 * (i >> 2)) for i in range(8)]
        corners[5] = (20, 10, 1)
        for number, (x, y, z) in enumerate(corners, start=1):
            for shift, name in enumerate(atoms):
                serial += 1
                lines.append(
                    f"ATOM  {serial:5d}  {name:<3s} ALA A{number:4d}    "
                    f"{x:8.3f}{y:8.3f}{z + 0.3 * shift:8.3f}  1.00  0.00           {name[0]}"
                )
        lines.append("HETATM  999  O   HOH A 999      90.000  90.000  90.000  1.00  0.00           O")
        return "\n".join([*lines, "END", ""])

    return text
