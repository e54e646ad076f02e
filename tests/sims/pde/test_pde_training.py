"""Training: what is learned, what it costs, and that it goes on after a kill as if nothing was."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.data import Campaign, Stream, Trajectories, generate
from sims.pde.networks import UNet
from sims.pde.objectives import Batch, one_step, refine, unrolled
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import OneStep
from sims.pde.training import LossNotFinite, TrainingSettings, train

POINTS = 16
QUICK = TrainingSettings(steps=30, batch=8, stride=2, warmup=5)


class Killed(Exception):
    """Stands for the end of a process."""


class Filter(torch.nn.Module):
    """A linear filter of three points."""

    def __init__(self):
        super().__init__()
        self.taps = torch.nn.Conv1d(1, 1, 3, bias=False, dtype=torch.float64)

    def forward(self, fields, condition=None, level=None):
        return self.taps(torch.nn.functional.pad(fields, (1, 1), mode="circular"))


@pytest.fixture(scope="module")
def data():
    return generate(
        KuramotoSivashinsky(22.0, POINTS, 0.2),
        12,
        10,
        0.4,
        initial=random_waves,
        generator=torch.Generator().manual_seed(0),
        warm_up=4.0,
        dtype=torch.float32,
    )


def stream():
    campaign = Campaign(
        KuramotoSivashinsky(22.0, POINTS, 0.2), random_waves, 0.4, 4.0, dtype=torch.float32
    )
    return Stream(campaign, frames=4, capacity=64, watermark=16, batch=8, windows=5)


def untrained(seed=0, width=4, **options):
    torch.manual_seed(seed)
    network = UNet(widths=(width, width), conditions=len(options.get("conditions", ())))
    return OneStep(network, time_step=0.8, length=22.0, points=POINTS, **options)


def numbers(seed=1):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


def shifted(cells, modes, amplitude):
    """Waves of some modes on 16 points that go by so many cells in a frame."""
    generator = torch.Generator().manual_seed(2)
    phase = 2 * torch.pi * torch.rand(16, 1, modes, 1, generator=generator, dtype=torch.float64)
    k = torch.arange(1, modes + 1, dtype=torch.float64).view(1, 1, -1, 1)
    time = torch.arange(8, dtype=torch.float64).view(1, -1, 1, 1)
    x = 2 * torch.pi * torch.arange(16, dtype=torch.float64) / 16
    states = amplitude.view(1, 1, -1, 1) * torch.cos(
        k * (x - time * cells / 16 * 2 * torch.pi) + phase
    )
    return Trajectories(states.sum(2, keepdim=True), 1.0, 16.0)


def trained_filter(data):
    torch.manual_seed(0)
    model = OneStep(Filter(), time_step=1.0, length=16.0, points=16)
    settings = TrainingSettings(steps=500, batch=64, rate=3e-2, decay=0.0, average=0.99)
    return train(model, data, settings, objective=one_step, generator=numbers())


def test_a_shift_by_a_cell_is_learned_to_the_last_digits():
    """Three points hold the shift, so nothing is left of the loss but rounding."""
    data = shifted(1.0, 7, torch.ones(7, dtype=torch.float64))
    model = trained_filter(data)
    batch = data.draw(64, 2, 1, numbers())
    assert float(one_step(model, batch).detach()) < 1e-12


def test_a_shift_by_half_a_cell_is_learned_to_the_floor_that_three_points_have():
    """The best filter c minimises Σ_k a_k² |e^(-ik/2) - 1 - Σ_j c_j e^(ijk)|²: least squares."""
    amplitude = torch.linspace(1.0, 0.2, 7, dtype=torch.float64)
    data = shifted(0.5, 7, amplitude)
    angle = 2 * torch.pi * torch.arange(1, 8, dtype=torch.float64) / 16
    wanted = amplitude * (torch.exp(-0.5j * angle) - 1)
    basis = amplitude[:, None] * torch.exp(1j * angle[:, None] * torch.tensor([-1.0, 0.0, 1.0]))
    matrix, right = torch.cat([basis.real, basis.imag]), torch.cat([wanted.real, wanted.imag])
    left = matrix @ torch.linalg.lstsq(matrix, right[:, None]).solution[:, 0] - right
    floor = float(left.square().sum() / right.square().sum())
    assert floor > 1e-3
    model = trained_filter(data)
    loss = float(one_step(model, Batch(data.states[:, :2])).detach())
    assert loss == pytest.approx(floor, rel=1e-2)  # phases of 16 trajectories do not matter


def test_the_same_numbers_give_the_same_weights(data):
    one, twin, other = (
        weights(train(untrained(), data, QUICK, objective=one_step, generator=numbers(seed)))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, twin)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", ["file", "stream", "refiner", "adamw"])
def test_a_training_that_was_killed_ends_with_the_same_bits(tmp_path, data, kind):
    def setting():
        source = stream() if kind == "stream" else data
        if kind != "refiner":
            return untrained(), source, one_step
        torch.manual_seed(0)
        network = UNet(channels_in=2, widths=(4, 4), leveled=True)
        model = Refiner(network, time_step=0.8, length=22.0, points=POINTS, levels=2)
        return model, source, refine

    def kill(record):
        if record.steps == 20:
            raise Killed

    def run(**options):
        model, source, objective = setting()
        return train(
            model,
            source,
            replace(QUICK, optimizer="adamw" if kind == "adamw" else "soap"),
            objective=objective,
            generator=numbers(),
            validation=data,
            look_every=10,
            save_every=8,
            **options,
        )

    whole = run()
    path = tmp_path / "training.pt"
    with pytest.raises(Killed):
        run(checkpoint=path, listen=kill)
    assert torch.load(path, weights_only=True)["last"] == 16
    later = run(checkpoint=path)
    assert torch.equal(weights(whole), weights(later))
    assert later.record.loss == whole.record.loss
    assert later.record.judged == whole.record.judged
    assert later.record.flop == whole.record.flop
    again = run(checkpoint=path)  # nothing is left to do
    assert torch.equal(weights(whole), weights(again))
    assert again.record.steps == 30


def test_scale_ranges_and_costs_are_told(data):
    own = torch.linspace(0.9, 1.1, len(data), dtype=torch.float64)
    varied = replace(data, frame_time=0.4 * own, parameters={"viscosity": own})
    model = untrained(conditions={"viscosity": (0.0, 9.0), "time_step": (0.0, 9.0)})
    heard = []
    train(
        model,
        varied,
        QUICK,
        objective=one_step,
        generator=numbers(),
        validation=varied,
        look_every=10,
        listen=lambda record: heard.append(record.steps),
    )
    assert model.conditions["viscosity"] == pytest.approx((0.9, 1.1))
    assert model.conditions["time_step"] == pytest.approx((0.72, 0.88))
    change = varied.states[:, 2::2].double() - varied.states[:, :-2:2].double()
    assert float(model.scale) == pytest.approx(float(change.std()), rel=1e-2)
    assert heard == model.record.at == [10, 20, 30]
    assert [step for step, _ in model.record.judged] == [10, 20, 30]
    assert model.record.parameters == model.parameter_count()
    assert model.record.seconds > 0
    assert model.record.elapsed > 0
    assert not model.training
    assert not model.warned


def test_every_window_that_a_live_source_counts_as_used_was_trained_on():
    source, seen = stream(), []

    def loss(model, batch, generator):
        seen.append(len(batch.states))
        return one_step(model, batch, generator)

    train(untrained(), source, QUICK, objective=loss, generator=numbers())
    assert seen == [1] + [8] * 30  # the first counts operations, on a part of the first batch
    used = source.reservoir.received - int(
        (source.reservoir.uses[: source.reservoir.held] == 0).sum()
    )
    assert used <= 8 * 30
    assert int(source.reservoir.uses.sum()) <= 8 * 30


def test_flop_are_three_forward_passes_for_each_window(data):
    model = OneStep(Filter(), time_step=0.8, length=22.0, points=POINTS)
    train(model, data, QUICK, objective=one_step, generator=numbers())
    # a filter of 3 taps on 16 points: 48 products and sums
    assert model.record.flop == 30 * 3 * 8 * 2 * 48


def test_without_an_average_the_last_weights_are_returned(data):
    last = []

    def loss(model, batch, generator):
        last[:] = [p.detach().clone() for p in model.parameters()]
        return one_step(model, batch, generator)

    model = train(
        untrained(), data, replace(QUICK, average=0.0), objective=loss, generator=numbers()
    )
    # before the last step, whose rate is the smallest
    assert all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(model.parameters(), last, strict=True)
    )


def test_a_budget_of_seconds_ends_a_training(data):
    settings = replace(QUICK, steps=10**6, seconds=0.3)
    model = train(untrained(), data, settings, objective=one_step, generator=numbers())
    assert 0.3 <= model.record.seconds < 3.0
    assert model.record.steps < 10**6


def test_a_loss_that_is_not_finite_names_the_step_and_leaves_the_checkpoint(tmp_path, data):
    path = tmp_path / "training.pt"
    count = []

    def loss(model, batch, generator):
        count.append(1)
        value = one_step(model, batch, generator)
        return value * float("nan") if len(count) == 14 else value

    with pytest.raises(LossNotFinite, match="the loss at step 13 is nan; take a smaller rate"):
        train(  # the first call counts the operations
            untrained(),
            data,
            QUICK,
            objective=loss,
            generator=numbers(),
            checkpoint=path,
            save_every=5,
        )
    kept = torch.load(path, weights_only=True)
    assert kept["last"] == 10
    assert all(bool(v.isfinite().all()) for v in kept["model"].values())


def test_a_checkpoint_of_another_training_says_what_differs(tmp_path, data):
    path = tmp_path / "training.pt"
    quick = replace(QUICK, steps=2)

    def run(model=None, source=data, settings=quick, objective=one_step):
        return train(
            model or untrained(),
            source,
            settings,
            objective=objective,
            generator=numbers(),
            checkpoint=path,
        )

    run()
    with pytest.raises(InputError, match=r"widths is \[4, 4\] in the file and \[8, 8\] here"):
        run(untrained(width=8))
    with pytest.raises(InputError, match=r"settings\.batch is 8 in the file and 9 here"):
        run(settings=replace(quick, batch=9))
    with pytest.raises(InputError, match="objective is 'one_step' in the file"):
        run(objective=unrolled(2))
    with pytest.raises(InputError, match="source has states"):
        run(source=data.part(slice(6)))
    with pytest.raises(InputError, match="other values than the data"):
        run(source=replace(data, states=2 * data.states))
    with pytest.raises(InputError, match="other values than the data"):
        run(source=replace(data, states=data.states.flip(0)))
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        run()
    torch.save({"identity": {}, "last": None}, path)
    with pytest.raises(InputError, match="no training of a surrogate"):
        run()


def test_data_that_do_not_fit_are_named(data):
    def run(model=None, source=data, settings=QUICK, objective=one_step, **options):
        return train(
            model or untrained(),
            source,
            settings,
            objective=objective,
            generator=numbers(),
            **options,
        )

    with pytest.raises(InputError, match=r"time_step must be 0\.8"):
        run(settings=replace(QUICK, stride=1))
    for wrong, what in (
        ({"model": UNet()}, "surrogate must be a surrogate, such as OneStep or Refiner, got UNet"),
        ({"source": data.states}, "source must be Trajectories or a Stream, got Tensor"),
        ({"settings": {"steps": 3}}, "settings must be TrainingSettings, got dict"),
        ({"objective": "one_step"}, "objective must be callable, got str"),
        ({"validation": data.states}, "validation must be Trajectories, got Tensor"),
    ):
        with pytest.raises(InputError, match=what):
            run(**wrong)
    plane = Trajectories(data.states[..., None].expand(-1, -1, -1, -1, POINTS), 0.4, (22.0, 44.0))
    square = OneStep(UNet(2, widths=(4, 4)), time_step=0.8, length=22.0, points=POINTS)
    with pytest.raises(InputError, match=r"spacing along axis 1 must be 1 times .* got 2 times"):
        run(square, plane)
    with pytest.raises(InputError, match=r"time_step must be 0\.8"):
        run(validation=data.part(slice(2), slice(None, None, 2)))
    with pytest.raises(InputError, match=r"spacing must be 1\.375"):
        run(source=replace(data, length=20.0))
    with pytest.raises(InputError, match=r"source must tell the surrogate's conditions \['drag'\]"):
        run(untrained(conditions={"drag": (0.0, 1.0)}))
    with pytest.raises(InputError, match="frames must be at least 4, which the objective looks"):
        run(settings=replace(QUICK, frames=2), objective=unrolled(3))
    with pytest.raises(InputError, match="need trajectories of at least 17 frames"):
        run(objective=unrolled(8))
    with pytest.raises(InputError, match="precision='float16' needs a surrogate on CUDA"):
        run(settings=replace(QUICK, precision="float16"))
    with pytest.raises(InputError, match="weights that require gradients"):
        run(untrained().requires_grad_(False))


def test_networks_are_compiled_while_they_are_trained(data, monkeypatch):
    compiled = []

    def compile_in_place(self):
        compiled.append(self)
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(torch.nn.Module, "compile", compile_in_place)
    settings = replace(QUICK, compile=True)
    model = train(untrained(), data, settings, objective=one_step, generator=numbers())
    assert compiled == [model.network]
    assert model.network._compiled_call_impl is None  # so that it can be copied and sent away
    plain = train(untrained(), data, QUICK, objective=one_step, generator=numbers())
    assert torch.equal(weights(model), weights(plain))


def test_a_trained_surrogate_keeps_its_scale_when_it_is_trained_further(data):
    model = train(untrained(), data, QUICK, objective=one_step, generator=numbers())
    scale = model.scale.clone()
    more = replace(data, states=1.1 * data.states)
    train(model, more, QUICK, objective=one_step, generator=numbers())
    assert torch.equal(model.scale, scale)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, "bfloat16", "float16"])
def test_on_cuda_with_mixed_precision(data, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = untrained(width=16).to("cuda")
    settings = replace(QUICK, steps=200, precision=precision)
    generator = torch.Generator("cuda").manual_seed(0)
    train(model, data, settings, objective=one_step, generator=generator, look_every=100)
    assert model.record.loss[-1] < 0.5 * model.record.loss[0]
