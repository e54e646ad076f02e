"""Networks on periodic grids of one, two or three dimensions, with one call.

    network(fields, condition=None, level=None)

fields: (B, channels_in, *space). condition: (B, conditions), each between 0 and 1 over the range it
is trained on. level: (B,) between 0 and 1, how far a refinement has come. Returns (B, channels_out,
*space), which is 0 for an untrained network.
"""

from sims.pde.networks.fourier import FourierNet
from sims.pde.networks.local import LocalNet
from sims.pde.networks.unet import UNet

__all__ = ["FourierNet", "LocalNet", "UNet"]
