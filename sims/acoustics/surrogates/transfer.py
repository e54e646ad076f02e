"""What a DeepONet has learned of one room, taken to another (Borrel-Jensen et al., PNAS 121(2)
e2312159120 (2024)): the layers next to the inputs stay, the others are trained further.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.surrogates.deeponet import DeepONet, ModifiedMlp
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.records import Teacher
from sims.acoustics.surrogates.training import Schedule, train_deeponet

FROZEN_BRANCH = 2  # layers from the input
FROZEN_TRUNK = 1
FEWEST_SAMPLES = 1.5  # per wavelength at fmax; a pulse is 0.64 wavelengths wide to each side


def transferred(trained: DeepONet, domain: Domain) -> DeepONet:
    """A net for another domain that starts from a trained one, to be given to `train_deeponet`.

    It is of the same sizes and has the same weights. Layers 0 and 1 of the branch, layer 0 of the
    trunk, and U and V of both are frozen; of a ResNet branch, the first convolution and the first
    block, whose batch norms still follow the batches. The samples of the source and the coordinates
    of receivers span the new room as they did the old one. `trained` stays as it is.

    domain: other extents, walls, boxes of sources or receivers, duration. Raises InputError for a
    room that the samples are too few for, at most 1.5 per wavelength at fmax.
    """
    if not isinstance(trained, DeepONet):
        raise InputError(f"trained must be a DeepONet, got {type(trained).__name__}")
    settings = trained.settings()
    low, high = domain.bounds
    wavelength = SPEED_OF_SOUND / domain.fmax
    for axis, size, count in zip("xyz", high - low, settings["samples"], strict=True):
        sampled = (count - 1) * wavelength / float(size)
        if sampled < FEWEST_SAMPLES:
            raise InputError(
                f"domain must leave the source at least {FEWEST_SAMPLES} samples per wavelength at "
                f"fmax, got {sampled:.3g} along {axis} from {count} on {float(size):.3g} m; "
                "train afresh, or transfer from a net with more samples"
            )
    model = DeepONet.of_settings(domain, settings)
    model.load_state_dict(trained.state_dict())
    kept: list[torch.nn.Module] = [*model.trunk.hidden[:FROZEN_TRUNK], model.trunk.blends]
    if isinstance(model.branch, ModifiedMlp):
        kept += [*model.branch.hidden[:FROZEN_BRANCH], model.branch.blends]
    else:
        kept.append(model.branch.blocks[:FROZEN_BRANCH])
    for layer in kept:
        layer.requires_grad_(False)
    return model


def transfer_deeponet(
    teacher: Teacher,
    trained: DeepONet,
    domain: Domain,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    progress: bool = False,
    listen: Callable[[int, float, float], None] | None = None,
    look_every: int = 500,
) -> DeepONet:
    """Train what `transferred` gives on pulses of another room's solver.

    The arguments after domain are those of `train_deeponet`. Raises InputError as both do.
    """
    return train_deeponet(
        teacher, transferred(trained, domain), schedule, generator=generator,
        checkpoint=checkpoint, save_every=save_every, progress=progress, listen=listen,
        look_every=look_every,
    )  # fmt: skip
