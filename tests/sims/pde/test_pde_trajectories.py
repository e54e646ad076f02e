"""Trajectories: what they check, the windows they give, and their files."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomopt.errors import BackendUnavailable, InputError
from geomopt.files import StorageError
from sims.pde.data import Trajectories

SUFFIXES = ("npz", "h5", "zarr")


def counted(count=5, frames=9, points=(4,), **options):
    """States whose value is 100 trajectory + frame."""
    number = 100.0 * torch.arange(count)[:, None] + torch.arange(frames)
    states = number.view(count, frames, 1, *[1] * len(points)).expand(-1, -1, 2, *points)
    return Trajectories(states.clone(), **{"frame_time": 0.2, "length": 8.0, **options})


def rich(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    own = 1 + torch.rand(5, generator=generator, dtype=torch.float64)
    return Trajectories(
        torch.randn(5, 7, 1, 6, generator=generator, dtype=dtype),
        own,
        2 * own,
        {"viscosity": 3 * own, "drag": torch.tensor(0.1)},
        equation="Burgers",
        units="m, s",
        description="näher",
    )


def same(one, other):
    assert one.states.dtype == other.states.dtype
    assert torch.equal(one.states, other.states)
    for name in ("frame_time", "length"):
        values = [torch.as_tensor(getattr(d, name), dtype=torch.float64) for d in (one, other)]
        assert torch.equal(*values), name
    assert one.parameters.keys() == other.parameters.keys()
    assert all(torch.equal(one.parameters[n], other.parameters[n]) for n in one.parameters)
    for name in ("equation", "units", "description"):
        assert getattr(one, name) == getattr(other, name)
    return True


def backend(suffix):
    if suffix != "npz":
        pytest.importorskip({"h5": "h5py", "zarr": "zarr"}[suffix])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_files_give_back_what_they_got(tmp_path, suffix, dtype):
    backend(suffix)
    data = rich(dtype)
    path = tmp_path / "new" / f"data.{suffix}"
    data.save(path)
    assert same(Trajectories.load(path), data)
    other = replace(data, description="another")
    other.save(path)
    assert same(Trajectories.load(path), other)
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # no drafts are left


def test_a_zarr_store_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    path = tmp_path / "data.zarr"
    rich().save(path)
    rename = Path.rename

    def failing(self, target):
        if target == path and "old" not in self.name:
            raise OSError(28, "full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StorageError, match="the disk is full"):
        replace(rich(), description="another").save(path)
    monkeypatch.undo()
    assert same(Trajectories.load(path), rich())
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_data_say_what_they_are_in_a_line():
    assert repr(rich()) == "Trajectories(Burgers, float64 states (5, 7, 1, 6), viscosity, drag)"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("length", [3.0, (3.0, 4.0)])
def test_boxes_that_all_share_and_single_trajectories(tmp_path, suffix, length):
    backend(suffix)
    for count in (1, 2):  # two trajectories in two directions: whose sizes could be taken for sides
        data = counted(count, points=(4, 6), length=length, parameters={"a": torch.ones(count)})
        data.save(tmp_path / f"data.{suffix}")
        found = Trajectories.load(tmp_path / f"data.{suffix}")
        assert found.length == length
        assert same(found, data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_of_files_are_parts_of_the_data(tmp_path, suffix):
    backend(suffix)
    data = rich()
    path = tmp_path / f"data.{suffix}"
    data.save(path)
    part = Trajectories.load(path, slice(1, 4), slice(0, None, 3))
    assert same(part, data.part(slice(1, 4), slice(0, None, 3)))
    assert part.states.shape == (3, 3, 1, 6)
    assert torch.equal(part.frame_time, 3 * data.frame_time[1:4])
    with pytest.raises(InputError, match="forwards"):
        Trajectories.load(path, slice(None, None, -1))


def test_formats_hold_the_same_arrays(tmp_path):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    data = rich()
    for suffix in SUFFIXES:
        data.save(tmp_path / f"data.{suffix}")
    with np.load(tmp_path / "data.npz") as flat, h5py.File(tmp_path / "data.h5") as tree:
        store = zarr.open_group(tmp_path / "data.zarr", mode="r")
        names = [name for name in flat.files if flat[name].ndim]
        assert set(names) == {
            "states", "frame_time", "length", "parameters/viscosity", "parameters/drag"
        }  # fmt: skip
        for name in names:
            assert np.array_equal(flat[name], tree[name][...])
            assert np.array_equal(flat[name], store[name][...])
        assert tree["states"].chunks == (1, 7, 1, 6)
        for name in ("format", "version", "equation", "units", "description"):
            assert flat[name].item() == tree.attrs[name] == store.attrs[name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_none_are_named(tmp_path, suffix):
    backend(suffix)
    path = tmp_path / f"data.{suffix}"
    with pytest.raises(InputError, match="no file"):
        Trajectories.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=f"data.{suffix} is damaged"):
        Trajectories.load(path)


def test_damage_within_the_states_is_found(tmp_path):
    pytest.importorskip("h5py")
    pytest.importorskip("zarr")
    data = counted(count=3)
    data.save(tmp_path / "data.h5")
    content = bytearray((tmp_path / "data.h5").read_bytes())
    place = content.find(data.states[1, 0].numpy().tobytes())
    content[place + 3] ^= 1
    (tmp_path / "data.h5").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"data\.h5 is damaged"):
        Trajectories.load(tmp_path / "data.h5")
    data.save(tmp_path / "data.zarr")
    (tmp_path / "data.zarr" / "states" / "c" / "1" / "0" / "0" / "0").unlink()
    with pytest.raises(InputError, match=r"data\.zarr: states must be finite"):
        Trajectories.load(tmp_path / "data.zarr")


def test_text_that_other_programs_write_as_bytes_is_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    counted().save(tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "a") as file:
        file.attrs["format"] = np.bytes_(file.attrs["format"])
        file.attrs["equation"] = np.bytes_("u_t = 0")
    assert Trajectories.load(tmp_path / "data.h5").equation == "u_t = 0"


@pytest.mark.parametrize(
    ("trajectories", "what"),
    [(0, "must be slices, got 0"), (slice(9, 12), r"must leave something of \(5, 9\)")],
)
def test_parts_that_are_none_are_named(tmp_path, trajectories, what):
    counted().save(tmp_path / "data.npz")
    with pytest.raises(InputError, match=what):
        Trajectories.load(tmp_path / "data.npz", trajectories)


def test_numbers_that_are_not_finite_are_counted_with_the_file(tmp_path):
    path = tmp_path / "data.npz"
    rich().save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["states"][0, 0, 0, :2] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"data.npz: states must be finite, got 2 NaN"):
        Trajectories.load(path)
    assert same(Trajectories.load(path, slice(1, None)), rich().part(slice(1, None)))
    del arrays["length"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"data.npz: it has no length"):
        Trajectories.load(path)
    np.savez(path, **{**arrays, "length": np.array([["long"]])})
    with pytest.raises(InputError, match="length must be numbers of at most 64 bits, got <U4"):
        Trajectories.load(path)
    np.savez(path, **{**arrays, "length": np.array([[1.0]]), "version": 2})
    with pytest.raises(InputError, match="its layout is 2, this release reads 1"):
        Trajectories.load(path)
    np.savez(path, states=arrays["states"])
    with pytest.raises(InputError, match="no file of trajectories"):
        Trajectories.load(path)


def test_another_order_of_bytes_is_read(tmp_path):
    path = tmp_path / "data.npz"
    rich().save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("states", "length"):
        arrays[name] = arrays[name].astype(">f8")
    np.savez(path, **arrays)
    assert same(Trajectories.load(path), rich())


def test_other_suffixes_foreign_folders_and_missing_packages(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"\.npz, \.h5"):
        rich().save(tmp_path / "data.csv")
    pytest.importorskip("zarr")
    folder = tmp_path / "mine.zarr"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="no Zarr store"):
        rich().save(folder)
    assert (folder / "letter.txt").exists()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'geomopt\[data\]'"):
        rich().save(tmp_path / "data.h5")


def test_windows_are_of_one_trajectory_and_start_at_every_phase():
    data = counted(parameters={"a": torch.arange(5.0)})
    batch = data.draw(4000, 3, 2, torch.Generator().manual_seed(0))
    assert batch.states.shape == (4000, 3, 2, 4)
    first = batch.states[:, 0, 0, 0]
    assert torch.equal(batch.states[:, 1, 0, 0], first + 2)
    assert torch.equal(batch.states[:, 2, 1, 3], first + 4)
    assert torch.equal(first // 100, batch.condition["a"])
    # 5 trajectories with 5 starts each: chi-square with 24 degrees of freedom, 51.2 at 1e-3
    _, counts = first.unique(return_counts=True)
    assert len(counts) == 25
    assert float(((counts - 160.0) ** 2 / 160).sum()) < 51.2
    assert torch.equal(batch.condition["time_step"], torch.full((4000,), 0.4))
    assert torch.equal(batch.condition["spacing"], torch.full((4000,), 2.0))
    again = data.draw(4000, 3, 2, torch.Generator().manual_seed(0))
    assert torch.equal(again.states, batch.states)


def test_conditions_follow_the_trajectories():
    data = rich(torch.float32)
    assert data.ranges(2)["time_step"] == (
        2 * float(data.frame_time.min()),
        2 * float(data.frame_time.max()),
    )
    batch = data.draw(50, 2, 1, torch.Generator().manual_seed(0))
    assert batch.condition["viscosity"].dtype == torch.float32
    assert torch.allclose(batch.condition["viscosity"], 3 * batch.condition["time_step"])
    assert torch.allclose(batch.condition["spacing"], batch.condition["time_step"] / 3)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"states": torch.zeros(3, 4, 5)}, "states must have shape"),
        ({"states": torch.zeros(3, 0, 1, 5)}, "states must have shape"),
        ({"states": torch.full((1, 2, 1, 4), torch.inf)}, "states must be finite, got 8"),
        ({"states": torch.zeros(1, 2, 1, 4, dtype=torch.int64)}, "floating"),
        ({"states": torch.zeros(1, 2, 1, 4, dtype=torch.float16)}, "float32 or float64"),
        ({"frame_time": 0.0}, "frame_time must be positive"),
        ({"frame_time": torch.ones(4)}, "frame_time must be a positive number or 5"),
        ({"frame_time": "soon"}, "frame_time must be"),
        ({"length": -torch.ones(5)}, "length must be positive"),
        ({"length": (1.0, 2.0)}, "length must have one number for each of 1"),
        ({"length": float("nan")}, "length must be positive and finite"),
        ({"parameters": {"a": torch.ones(3)}}, r"parameters\['a'\] must be a number or"),
        ({"parameters": {"a": torch.tensor(torch.nan)}}, r"parameters\['a'\] must be finite"),
        ({"parameters": {"time_step": torch.ones(5)}}, "identifiers other than time_step"),
        ({"parameters": {"a b": torch.ones(5)}}, "identifiers"),
        ({"parameters": [1.0]}, "parameters must map"),
        ({"units": 3}, "units must be text"),
    ],
)
def test_bad_data_are_named(options, what):
    given = {"states": torch.zeros(5, 4, 1, 6), "frame_time": 0.1, "length": 1.0, **options}
    with pytest.raises(InputError, match=what):
        Trajectories(**given)


def test_windows_that_do_not_fit_are_named():
    generator = torch.Generator()
    with pytest.raises(InputError, match="at least 11 frames, these have 9"):
        counted().draw(1, 6, 2, generator)
    with pytest.raises(InputError, match="stride must be an integer"):
        counted().draw(1, 2, 0, generator)
