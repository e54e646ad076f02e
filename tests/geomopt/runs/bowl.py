"""A small task that runs in milliseconds: the lowest point of a bowl, with a scene, metrics and
artifacts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.mesh import Mesh
from geomopt.viewer.scene import Scene
from optimizers import METHODS, Box, Budget, Problem

CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)


@dataclass(frozen=True)
class Nested:
    factor: float = 1.0
    label: str = "a"


@dataclass(frozen=True)
class Bowl:
    """size: number of unknowns. pause: seconds an evaluation sleeps. fail_at: evaluation that
    raises.
    """

    size: int = 6
    steepness: float = 1.0
    data: Path | None = None
    pause: float = 0.0
    fail_at: int | None = None
    start_error: str = ""
    weights: tuple[float, ...] = (1.0,)
    nested: Nested = field(default_factory=Nested)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size must be positive, got {self.size}")

    def method(self) -> object:
        return METHODS["adam"](step_size=0.02)

    def budget(self) -> Budget:
        return Budget(iterations=60)

    def start(self, device: torch.device, seed: int) -> BowlProblem:
        if self.start_error == "bug":
            raise RuntimeError("a bug in start")
        if self.start_error:
            raise ValueError(self.start_error)
        if self.data is not None:
            self.data.read_text()
        return BowlProblem(self, device, seed)


class BowlProblem(Problem):
    def __init__(self, settings: Bowl, device: torch.device, seed: int) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(seed)
        self.bottom = torch.rand(settings.size, generator=generator, dtype=torch.float64).to(device)
        self.asked = 0
        super().__init__(
            {"x": Box(settings.size, -2.0, 2.0, start=-1.0)},
            self._value,
            differentiable=True,
            device=device,
        )

    def _value(self, named: dict[str, Tensor]) -> Tensor:
        self.asked += 1
        if self.settings.fail_at is not None and self.asked > self.settings.fail_at:
            raise RuntimeError("the bowl <broke> & fell")
        if self.settings.pause:
            time.sleep(self.settings.pause)
        return self.settings.steepness * ((named["x"] - self.bottom) ** 2).sum()

    def scene(self, parameters: dict[str, Tensor]) -> Scene:
        size = 0.5 + parameters["x"].norm().item()
        picture = torch.zeros(8, 8, 3)
        picture[:, :4, 0] = 1.0
        return Scene({"tetrahedron": Mesh(CORNERS * size, FACES)}, images={"target": picture})

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, object]:
        distance = (parameters["x"] - self.bottom).norm()
        return {"distance": distance, "unknowns": self.settings.size, "shape": "bowl"}

    def write_artifacts(self, parameters: dict[str, Tensor], folder: Path) -> None:
        (folder / "result.txt").write_text(" ".join(map(str, parameters["x"].tolist())))
        if os.environ.get("BOWL_DIES_IN_ARTIFACTS"):
            os._exit(9)
        Mesh(CORNERS, FACES).save(folder / "mesh.ply")
