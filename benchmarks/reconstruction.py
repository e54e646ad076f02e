"""Quality of reconstructions from eight 128 x 128 views of mask and depth, FlexiCubes beside
surface nets.

    python benchmarks/reconstruction.py MESH...

Each mesh is rendered from eight cameras, fitted twice with 300 steps on 32 cells, and compared with
itself. Surface nets are the same fit without weights and deformation. Distance is the unsquared
chamfer distance to the other mesh's triangles, the mean of both directions over 100 000 samples
each, in cells; IN>5 the share of samples whose normals differ by more than 5 degrees. One thread;
seconds are CPU time of the fit alone. The bracket that ships is taken when no mesh is named.
"""

import argparse
import time
from pathlib import Path

import torch

from geomopt import assets
from geomopt.reconstruct import Reconstruction
from optimizers import minimize

COLUMNS = (
    "mesh",
    "extraction",
    "distance / cell",
    "IN>5",
    "genus (of the mesh)",
    "open or non-manifold edges",
    "faces that intersect",
    "fit, CPU s",
)


def row(mesh: Path, extraction: str) -> str:
    """One line of the table."""
    task = Reconstruction(
        data=mesh, views=8, image_size=128, resolution=32, steps=300, extraction=extraction
    )
    problem = task.start(torch.device("cpu"), seed=0)
    start = time.process_time()
    result = minimize(problem, task.method(), budget=task.budget(), seed=0)
    seconds = time.process_time() - start
    found = problem.metrics(result.parameters)
    wrong = found["boundary_edges"] + found["nonmanifold_edges"]
    cells = (
        mesh.stem,
        extraction,
        f"{found['distance_in_cells']:.4f}",
        f"{found['normals_over_5']:.3f}",
        f"{found['genus']} ({found['reference_genus']})",
        f"{wrong}",
        f"{found['self_intersecting']:.2%}",
        f"{seconds:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("meshes", nargs="*", type=Path, metavar="MESH", help="closed mesh files")
    meshes = parser.parse_args().meshes or [assets.path("meshes/bracket.ply")]
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for mesh in meshes:
        for extraction in ("flexicubes", "surface-nets"):
            print(row(mesh, extraction), flush=True)


if __name__ == "__main__":
    main()
