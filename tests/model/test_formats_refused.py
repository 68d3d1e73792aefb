"""What is no checkpoint is refused in one clear sentence, and nothing in it is run."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typeguard import suppress_type_checks

from fourier_circuits.model.formats import load_model, save_state
from fourier_circuits.model.state import parameter_shapes
from fourier_circuits.model.transformer import build_transformer
from tests.model.test_formats import CONFIG, authors, float_state, paper_state
from tests.planted import hooked_state_dict

CLEAR = (ValueError, FileNotFoundError)


def refusal(path, epoch=None) -> str:
    """The message with which a path is refused: one sentence, of a kind that a command can print as it is."""
    with pytest.raises(CLEAR) as raised:
        load_model(path, epoch)
    assert type(raised.value) in CLEAR, type(raised.value)  # no UnicodeDecodeError or other kinds of ValueError
    message = str(raised.value)
    assert "\n" not in message
    assert 20 < len(message) < 600
    assert Path(path).name in message
    return message


def test_the_refusal_check_can_fail(tmp_path):
    save_state(tmp_path / "m", float_state(), CONFIG)
    with pytest.raises(pytest.fail.Exception):
        refusal(tmp_path / "m")


def test_a_path_that_does_not_exist(tmp_path):
    assert "give a run directory or a checkpoint file" in refusal(tmp_path / "nothing.pth")


def test_a_folder_that_is_no_run(tmp_path):
    assert "is not a run: it has no checkpoints/epoch-*.safetensors" in refusal(tmp_path)


def png() -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme.txt", "hello")
    return buffer.getvalue()


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


FOREIGN = {
    "empty": b"",
    "one byte": b"x",
    "text": b"epoch,loss\n0,4.7\n",
    "long text": b"the quick brown fox jumps over the lazy dog\n" * 500,
    "utf-8": "Säuren und Basen ∑∫".encode() * 20,
    "json": json.dumps({"p": 113}).encode(),
    "json whose ninth byte is a brace": b'{"a": 12{"b": 1}}' * 9,
    "png": png(),
    "zip": a_zip(),
    "gzip": zlib.compress(b"hello" * 100),
    "zeros": bytes(4096),
    "noise": bytes((i * 7919 + i // 251) % 256 for i in range(4096)),
    "a pickled list": pickle.dumps([1, 2, 3]),
    "a pickled dict of numbers": pickle.dumps({"embed.W_E": 1.0}),
    "a tensor": saved(torch.zeros(3)),
    "a list of tensors": saved([torch.zeros(3)]),
    "an empty dict": saved({}),
    "a dict of numbers": saved({"embed.W_E": 1.0}),
    "another model": saved(torch.nn.Linear(2, 3).state_dict()),
    "no states": saved({"state_dicts": [], "epochs": []}),
    "fewer states than epochs": saved({"state_dicts": [], "epochs": [0, 100]}),
    "states that are numbers": saved({"state_dicts": 3, "epochs": 4}),
    "another safetensors": safetensors.torch.save({"weight": torch.zeros(2)}),
    "an empty safetensors": safetensors.torch.save({}),
    "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }" + bytes(8),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_foreign_file(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(FOREIGN[kind])
    refusal(path)


def test_a_state_missing_from_a_run_of_theirs_at_an_epoch(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(FOREIGN["fewer states than epochs"])
    refusal(path, 100)


def whole_files() -> dict[str, bytes]:
    legacy = io.BytesIO()
    torch.save(authors(paper_state()), legacy, _use_new_zipfile_serialization=False)
    return {
        "pth": saved(authors(paper_state())),
        "old pth": legacy.getvalue(),
        "safetensors": safetensors.torch.save(hooked_state_dict(build_transformer(CONFIG))),
    }


@pytest.mark.parametrize("kind", ["pth", "old pth", "safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file(tmp_path, kind, share):
    content = whole_files()[kind]
    path = tmp_path / "cut"
    path.write_bytes(content)
    load_model(path)
    path.write_bytes(content[: max(int(len(content) * share), 5)])
    assert "not a" in refusal(path)


@pytest.mark.parametrize("length", [1, 8, 9, 10, 64])
def test_a_safetensors_cut_within_its_header(tmp_path, length):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole_files()["safetensors"][:length])
    refusal(path)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_garbage_in_the_middle(tmp_path, kind):
    """Either refused in a clear sentence, or (weights alone hit) read: never another error."""
    content = bytearray(whole_files()[kind])
    for start in range(0, len(content), len(content) // 12):
        harmed = bytearray(content)
        harmed[start : start + 40] = bytes(range(200, 240))
        path = tmp_path / "harmed"
        path.write_bytes(harmed)
        try:
            load_model(path)
        except CLEAR as error:
            assert type(error) in CLEAR and "\n" not in str(error), str(error)


class Bomb:
    """Pickled, it asks its reader to create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("way", ["torch", "old torch", "pickle", "inside"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, way):
    trace, path = tmp_path / "it ran", tmp_path / "bomb.pth"
    content = {**authors(paper_state()), "extra": Bomb(trace)}
    if way == "inside":
        content = {"model": authors(paper_state()), "config": Bomb(trace)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way != "old torch")
    message = refusal(path)
    assert not trace.exists()
    if way != "pickle":
        assert "was refused: besides tensors it carries objects that would have to run code to load" in message


def test_the_bomb_is_live(tmp_path):
    """Read without care, it goes off: the test above would notice."""
    trace = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "m.pth")
    assert "save its state dict alone and load that" in refusal(tmp_path / "m.pth")


LAYOUTS = {"ours": float_state, "the authors'": lambda: authors(paper_state())}


def write(path, tensors, kind):
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("missing", [name for name in parameter_shapes(CONFIG) if ".b_" not in name])
def test_a_missing_tensor(tmp_path, missing, layout, kind):
    tensors = LAYOUTS[layout]()
    del tensors[missing]
    write(tmp_path / "m", tensors, kind)
    message = refusal(tmp_path / "m")
    assert "missing" in message or "layout" in message or "shape" in message
    assert missing.split(".")[-1] in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_extra_tensor(tmp_path, layout):
    torch.save({**LAYOUTS[layout](), "blocks.0.ln1.w": torch.ones(10)}, tmp_path / "m")
    assert "unexpected tensors ['blocks.0.ln1.w']" in refusal(tmp_path / "m")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", list(parameter_shapes(CONFIG)))
def test_a_misshapen_tensor(tmp_path, name, layout):
    tensors = LAYOUTS[layout]()
    if name not in tensors:
        tensors[name] = torch.zeros(parameter_shapes(CONFIG)[name])
    shapes = {"stacked": tensors[name][None], "a scalar": tensors[name].flatten()[0]}
    if name != "pos_embed.W_pos" and (name, layout) != (
        "embed.W_E",
        "ours",
    ):  # else only a longer context or vocabulary
        shapes["doubled"] = torch.cat([tensors[name], tensors[name]])
    for wrong in shapes.values():
        torch.save({**tensors, name: wrong}, tmp_path / "m")
        refusal(tmp_path / "m")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_that_are_not_finite(tmp_path, layout, bad):
    tensors = LAYOUTS[layout]()
    tensors["blocks.0.mlp.W_out"][2, 1] = bad
    torch.save(tensors, tmp_path / "m")
    assert "blocks.0.mlp.W_out holds NaN or infinite weights" in refusal(tmp_path / "m")


def test_weights_that_float32_cannot_hold(tmp_path):
    tensors = {name: tensor.double() for name, tensor in float_state().items()}
    tensors["unembed.W_U"][0, 0] = 1e300
    torch.save(tensors, tmp_path / "m")
    assert "unembed.W_U" in refusal(tmp_path / "m")


@pytest.mark.parametrize("config", ["{", "[]", "3", '{"p": 2}', '{"p": 7, "colour": 1}', '{"p": 11}'])
def test_our_file_with_a_broken_configuration(tmp_path, config):
    safetensors.torch.save_file(float_state(), tmp_path / "m", {"config": config})
    with suppress_type_checks():
        refusal(tmp_path / "m")


def test_no_read_permission_is_said_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"x" * 20)

    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(OSError, match="Permission denied"):
        load_model(path)
