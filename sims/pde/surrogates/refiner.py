"""PDE-Refiner: a forecast whose noise is taken off at smaller and smaller amplitudes."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.networks.arguments import check_count, check_number
from sims.pde.surrogates.error_spectrum import ErrorSpectrum
from sims.pde.surrogates.saved import built, fill, read
from sims.pde.surrogates.schedule import FORMS, Form, NoiseLevels, candidate, recovered
from sims.pde.surrogates.surrogate import OneStep, Surrogate

SIGMA_MIN = 2e-3
Spectrum = Literal["white", "error"]
SPECTRA = ("white", "error")


class Refiner(Surrogate):
    """The increment by a first call of a network, and by one more call for each level of noise.

        ŷ = N(u, 0, 0)
        z = ŷ + σ_k ε,   ŷ = z - σ_k N(u, z, k)      for the levels k that it forecasts with

    Lippe et al., PDE-Refiner: achieving accurate long rollouts with neural PDE solvers (2023),
    arXiv 2308.05732, section 3 and algorithm 2. Noise of the amplitude σ_k hides all that is
    smaller, so that level k learns what is of about that size.

    network: sees fields and candidate (2 C channels) and the level; with `fine`, fields alone, as
    it then makes level 0 only, which may be that of a trained `OneStep`. fine: a network of its own
    for the levels from 1 on, which sees fields, candidate and level. levels: K, how many there are
    after level 0; with 0 it is a `OneStep`. sigma_min: σ_K, a standard deviation in units of that
    of the target; σ_k = sigma_min^(k / K). form: what the network gives, "epsilon" or "velocity",
    see `schedule`. forecast: the levels it forecasts with, in their order, all by default.
    spectrum: of the noise. "white" is the paper's. "error", for the epsilon form and a fine network
    of its own, is that of level 0's error, measured while level 0 learns: z = ŷ + σ_k S ε as in
    `ErrorSpectrum`, with σ_k from 1 at the first level to sigma_min at the last. Such noise hides
    at each mode just what level 0 does not know, and counts alike at large and at small ones. The
    fine network then sees 4 C channels: u, the candidate v = u + s z of the next field, and both
    with all modes at one size.
    amplitude: of the noise in a forecast, in units of that in training. It is 1 for white noise and
    0 for "error", whose candidates have that error already: a step is deterministic then, and
    `with_amplitude` gives a surrogate to draw samples from.
    last_call_only: gradients of a step pass through its last call alone, which costs a K + 1-th and
    would be enough for an ideal refinement, which depends on u and not on its candidate. Small ones
    that were trained hand large scales through with the candidate: measured after 500 steps of
    training, the cosine with the whole gradient was 0.85 to 0.92 over one step and 0.2 to 0.5 over
    five. Look at yours before relying on it.

    Deterministic for the state of a generator. Other arguments as for `Surrogate`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        time_step: float,
        length: float | Sequence[float],
        points: int | Sequence[int],
        channels: int = 1,
        conditions: Mapping[str, tuple[float, float]] | None = None,
        levels: int = 3,
        sigma_min: float = SIGMA_MIN,
        form: Form = "epsilon",
        fine: torch.nn.Module | None = None,
        forecast: Sequence[int] | None = None,
        spectrum: Spectrum = "white",
        amplitude: float | None = None,
        last_call_only: bool = False,
    ) -> None:
        noise = NoiseLevels(levels, sigma_min)
        if spectrum not in SPECTRA:
            raise InputError(f"spectrum must be one of {', '.join(SPECTRA)}, got {spectrum!r}")
        if spectrum == "error" and (fine is None or form != "epsilon"):
            raise InputError('spectrum="error" must come with a fine network and form="epsilon"')
        if form not in FORMS:
            raise InputError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if fine is not None and not levels:
            raise InputError("fine must be None without levels: there is nothing for it to do")
        super().__init__(
            network,
            time_step=time_step,
            length=length,
            points=points,
            channels=channels,
            conditions=conditions,
            refining=bool(levels) and fine is None,
        )
        self.noise = noise
        self.form: Form = form
        self.last_call_only = last_call_only
        self.fine = fine
        self.spectrum: Spectrum = spectrum
        self.errors = ErrorSpectrum(self.channels, self.points) if spectrum == "error" else None
        if amplitude is None:
            amplitude = 1.0 if self.errors is None else 0.0
        self.amplitude = _amplitude(amplitude)
        if fine is not None:
            seen = 2 if self.errors is None else 4
            told = levels > 1 or getattr(fine, "leveled", True)
            self._check_network("fine", fine, seen * self.channels, leveled=told)
        self.forecast = self._levels(range(1, levels + 1) if forecast is None else forecast)

    @property
    def levels(self) -> int:
        """K, how many there are after level 0."""
        return self.noise.count

    @property
    def sigmas(self) -> tuple[float, ...]:
        """σ_0, ..., σ_K: in units of the target, or of level 0's error for noise like that."""
        if self.errors is None:
            return self.noise.sigmas
        return 1.0, *NoiseLevels(self.levels - 1, self.noise.smallest).sigmas

    def with_amplitude(self, amplitude: float) -> Self:
        """The same surrogate, weights shared, with other noise in its forecasts."""
        other = copy.copy(self)
        other.amplitude = _amplitude(amplitude)
        return other

    def fit_scale(self, states: Tensor) -> None:
        """As `Surrogate.fit_scale`, with the spectra that noise like an error starts from."""
        super().fit_scale(states)
        if self.errors is not None:
            self.errors.begin(
                (self.seen(one[:-1]), self.target(one[:-1], one[1:])) for one in states.detach()
            )

    def with_levels(self, forecast: Sequence[int]) -> Self:
        """The same surrogate, weights shared, that forecasts with other levels."""
        other = copy.copy(self)
        other.forecast = self._levels(forecast)
        return other

    def scaled_increment(
        self, u: Tensor, told: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """y (B, C, *space) by a call for level 0 and for each level of `forecast`."""
        seen = self.seen(u)
        *before, last = (0, *self.forecast)
        y = torch.zeros_like(seen)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.last_call_only):
            for level in before:
                y = self._call(seen, y, level, told, generator)
        return self._call(seen, y, last, told, generator)

    def output(self, seen: Tensor, z: Tensor, share: Tensor, told: Tensor | None) -> Tensor:
        """What the network of the levels gives for candidates z (B, C, *space).

        seen: fields as the network sees them. share: k / K for each (B,). For shared weights, a
        candidate of zeros and a share of 0 ask for level 0.
        """
        network = self.network if self.fine is None else self.fine
        if self.errors is None:
            return self.given(network(torch.cat([seen, z], 1), told, share), seen)
        if not self.errors.fits(seen):
            raise InputError(
                f"u must have {self.points} points for noise of the spectrum of an error, got "
                f"{tuple(seen.shape[2:])}"
            )
        ratio = self.scale / self.spread
        following = seen + self.each(ratio, seen) * z
        both = torch.stack([seen, following])
        flat = self.errors.whitened(both.flatten(0, 1), ratio).view_as(both)
        return self.given(network(torch.cat([*both, *flat], 1), told, share), seen)

    def shaped(self, noise: Tensor) -> Tensor:
        """White noise (B, C, *space) with the spectrum of this surrogate's."""
        return noise if self.errors is None else self.errors.shaped(noise)

    def first(self, seen: Tensor, told: Tensor | None) -> Tensor:
        """y of level 0, (B, C, *space)."""
        if self.fine is not None or not self.levels:
            return self.given(self.network(seen, told), seen)
        return self.output(seen, torch.zeros_like(seen), seen.new_zeros(len(seen)), told)

    def samples(
        self,
        u: Tensor,
        count: int,
        generator: torch.Generator | None = None,
        *,
        condition: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """So many forecasts (count, B, C, *space) of u (B, C, *space), each with its own noise.

        Raises InputError for a surrogate whose forecasts have none.
        """
        check_count("count", count)
        self.check_noise()
        check_tensor("u", u)
        told = self.told(u, condition)
        many = u.repeat(count, *[1] * (u.dim() - 1))
        told = None if told is None else told.repeat(count, 1)
        y = self.scaled_increment(many, told, generator)
        return self.advanced(many, y).unflatten(0, (count, len(u)))

    def check_noise(self) -> None:
        """Raise InputError where all forecasts of a field are one and the same."""
        if not (self.amplitude and self.forecast):
            raise InputError(
                f"samples need noise, this Refiner has amplitude={self.amplitude:g} and "
                f"forecast={self.forecast}; take those of with_amplitude(1.0)"
            )

    def settings(self) -> dict[str, Any]:
        """What makes an untrained one like this, with its networks."""
        return {
            **super().settings(),
            "levels": self.levels,
            "sigma_min": self.noise.smallest,
            "form": self.form,
            "forecast": list(self.forecast),
            "spectrum": self.spectrum,
            "amplitude": self.amplitude,
        }

    def architecture(self) -> dict[str, Any]:
        """Kind, settings and networks, without what is learned or chosen afterwards."""
        found = super().architecture()
        for name in ("forecast", "amplitude"):
            del found["settings"][name]
        found["networks"].pop("errors", None)
        return found

    def load(self, path: str | os.PathLike[str]) -> None:
        """As `Surrogate.load`, with the levels and noise of the file's forecasts."""
        super().load(path)
        settings = read(path)["settings"]
        self.forecast = self._levels(settings["forecast"])
        self.amplitude = _amplitude(settings["amplitude"])

    def _call(
        self,
        seen: Tensor,
        y: Tensor,
        level: int,
        told: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """y of a level from that of the level before."""
        if not level:
            return self.first(seen, told)
        sigma = self.sigmas[level]
        noise = torch.zeros_like(y)
        if self.amplitude:
            noise = self.amplitude * self.shaped(drawn(y, generator))
        z = candidate(y, noise, sigma, self.form)
        share = seen.new_full((len(seen),), level / self.levels)
        output = self.output(seen, z, share, told)
        return recovered(z, self.shaped(output), sigma, self.form)

    def _levels(self, forecast: Sequence[int]) -> tuple[int, ...]:
        given = isinstance(forecast, list | tuple | range)
        levels = tuple(forecast) if given else ()
        known = given and all(isinstance(k, int) and 1 <= k <= self.levels for k in levels)
        if not known or any(b <= a for a, b in itertools.pairwise(levels)):
            raise InputError(
                f"forecast must be rising levels from 1 to {self.levels}, got {forecast!r}"
            )
        return levels


def _amplitude(value: object) -> float:
    """Return it if it is a number of at least 0."""
    meaning = "a number of at least 0"
    found = check_number("amplitude", value, meaning)
    if found < 0:
        raise InputError(f"amplitude must be {meaning}, got {found}")
    return found


def drawn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal noise of a tensor's shape; a generator of another device gives the same there.

    Raises InputError for what is no generator.
    """
    if not isinstance(generator, torch.Generator | None):
        raise InputError(f"generator must be a torch.Generator or None, got {generator!r}")
    device = like.device if generator is None else generator.device
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device)
    return noise.to(like.device)


def load_surrogate(path: str | os.PathLike[str]) -> Surrogate:
    """The surrogate of a file, with the networks it was saved with, ready to forecast.

    Raises InputError for a file that is none, and for a network that does not describe itself.
    """
    content = read(path)
    described = content["architecture"]
    kinds: dict[str, type[Surrogate]] = {"OneStep": OneStep, "Refiner": Refiner}
    if described["kind"] not in kinds:
        raise InputError(f"{path} holds a {described['kind']!r}, which is none of {sorted(kinds)}")
    try:
        networks = {name: built(of) for name, of in described["networks"].items()}
        for network in networks.values():
            network.to(getattr(torch, content["dtype"]))
        found = kinds[described["kind"]](**networks, **content["settings"])
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"path must be a file of a surrogate, got {path}: {error}") from None
    fill(found, content["weights"], path)
    return found.eval()
