"""Files that are damaged, or made to do harm, get one line, no memory and no say."""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamvis.errors import WeightsError
from streamvis.models.checkpoint_io import read

OWNED = "streamvis-test-owned"  # the file that hostile code would make


class Evil:
    def __reduce__(self):
        return (open, (OWNED, "w"))


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200_000_000))


def overlapping_zip(path: Path) -> None:
    torch.save({"x": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    start = whole.rindex(b"PK\1\2", 0, whole.rindex(b"/data/0"))  # to be told a thousand times
    end = whole.index(b"PK\1\2", start + 1)
    with zipfile.ZipFile(path) as archive:
        count = len(archive.infolist())
    tail = bytearray(whole[whole.rindex(b"PK\5\6") :])
    size = whole.rindex(b"PK\5\6") - start + 999 * (end - start)
    tail[8:12] = (count + 999).to_bytes(2, "little") * 2
    tail[12:16] = size.to_bytes(4, "little")
    path.write_bytes(whole[:start] + whole[start:end] * 999 + whole[start:-22] + tail)


def saved(value: object, **how: bool):
    return lambda path: torch.save(value, path, **how)


def written(content: bytes):
    return lambda path: path.write_bytes(content)


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HOSTILE = {
    "code.pth": saved({"x": Evil()}),
    "old-code.pth": saved({"x": Evil()}, _use_new_zipfile_serialization=False),
    "bare-code.pth": written(pickle.dumps(Evil())),
    "bomb.pth": zip_bomb,
    "overlapping.pth": overlapping_zip,
    "expanded.pth": saved({"x": torch.zeros(1).expand(10**11)}),
    "list.pth": saved([torch.zeros(1)]),
    "number.pth": saved({"x": 3}),
    "numbered.pth": saved({3: torch.zeros(1)}),
    "newline.pth": saved({"a\nb": 3}),
    "integers.pth": saved({"x": torch.zeros(3, dtype=torch.int64)}),
    "complex.pth": saved({"x": torch.zeros(3, dtype=torch.complex64)}),
    "eighths.pth": saved({"x": torch.zeros(3).to(torch.float8_e4m3fn)}),
    "sparse.pth": saved({"x": torch.eye(3).to_sparse()}),
    "nowhere.pth": saved({"x": torch.zeros(3, device="meta")}),
    "empty.pth": written(b""),
    "text.pth": written(b"not weights at all"),
    "empty.safetensors": written(b""),
    "text.safetensors": written(b"not weights at all"),
    "long-header.safetensors": written((2**62).to_bytes(8, "little") + b"{}"),
    "short.safetensors": written((10**8).to_bytes(8, "little") + b"{}"),
    "garbage-header.safetensors": written(safetensors(b"\xff{[")),
    "nested-header.safetensors": written(safetensors(b'{"a":' * 100_000)),
    "beyond.safetensors": written(safetensors(entry(offsets=(0, 8)), b"1234")),
    "reversed.safetensors": written(safetensors(entry(offsets=(8, 0)), b"12345678")),
    "absurd.safetensors": written(safetensors(entry(shape=(10**18, 10**18)), b"12345678")),
    "larger.safetensors": written(safetensors(entry(shape=(10**9,)), b"12345678")),
    "negative.safetensors": written(safetensors(entry(shape=(-2,)), b"12345678")),
    "type.safetensors": written(safetensors(entry(dtype="F33"), b"12345678")),
    "integers.safetensors": written(safetensors(entry(dtype="I32"), b"12345678")),
    "trailing.safetensors": written(safetensors(entry(), b"1234567890")),
}


def peak_memory() -> int:
    """The most memory in kB that this process has held since `clear_refs`."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_one_line_and_no_memory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    HOSTILE[name](tmp_path / name)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / name)
    assert peak_memory() - before < 50_000
    assert name in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert not (tmp_path / OWNED).exists()


def test_a_file_that_holds_code_is_told_which(tmp_path):
    torch.save({"x": Evil()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"Unsupported global: GLOBAL _?io\.open\)"):
        read(tmp_path / "a.pth")


def test_a_file_of_absurd_size_is_not_begun(tmp_path):
    path = tmp_path / "holes.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on disk
    with pytest.raises(WeightsError, match="1099511627776 bytes"):
        read(path)


@pytest.fixture(scope="module")
def good_files() -> dict[str, bytes]:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3)}
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(tensors, new)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    header = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    plain = safetensors(header, bytes(8))
    return {"new.pth": new.getvalue(), "old.pth": old.getvalue(), "a.safetensors": plain}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["new.pth", "old.pth", "a.safetensors"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    end=st.floats(0.2, 1),
)
def test_whatever_is_damaged_reads_or_is_told(good_files, tmp_path, name, changes, end):
    content = bytearray(good_files[name])
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    (tmp_path / name).write_bytes(content[: int(end * len(content)) + 1])
    try:
        state, _ = read(tmp_path / name)
    except WeightsError:
        return
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_of_an_onnx_file_the_error_names_the_kind_of_stage_that_takes_it(tmp_path):
    path = tmp_path / "yolox_nano.onnx"
    path.write_bytes(b"\x08\x08")
    with pytest.raises(WeightsError, match=r"is an ONNX file; .* runs as a stage of kind yolox"):
        read(path)
