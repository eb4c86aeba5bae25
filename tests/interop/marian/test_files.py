# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Model files come back as they were written, and what is damaged is refused before memory is taken for it."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from hf_attn.interop.marian.files import (
    FLOAT32,
    INTGEMM8,
    TEXT,
    Item,
    Quantization,
    dump_options,
    parse_options,
    quantize,
    read_items,
    read_model,
    write_bin,
    write_items,
    write_npz,
)
from tests.interop.marian.examples import lazy


OPTIONS = "dim-emb: 64\ntype: transformer"


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"Wemb": (16, 64), "encoder_l1_self_Wq": (64, 128), "encoder_l1_self_bq": (1, 128)}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", ["model.npz", "model.bin"])
@pytest.mark.parametrize("compressed", [False, True])
def test_float32_comes_back_bit_by_bit(tmp_path, arrays, name, compressed):
    path = tmp_path / name
    (write_npz if name.endswith("npz") else write_bin)(path, lazy(arrays), OPTIONS)
    if compressed:
        path = path.with_name(f"{name}.gz")
        path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    model = read_model(path)
    assert model.options == {"dim-emb": 64, "type": "transformer"} and model.options_text == OPTIONS
    assert model.quantization is None
    assert dict(model.shapes) == {name: array.shape for name, array in arrays.items()}
    for array_name, array in arrays.items():
        np.testing.assert_array_equal(model[array_name], array)


def test_npz_is_what_numpy_reads_and_writes(tmp_path, arrays):
    write_npz(tmp_path / "ours.npz", lazy(arrays), OPTIONS)
    with np.load(tmp_path / "ours.npz") as loaded:
        assert bytes(loaded["special:model.yml"]) == OPTIONS.encode() + b"\0"
        np.testing.assert_array_equal(loaded["Wemb"], arrays["Wemb"])
    text = np.frombuffer(OPTIONS.encode() + bytes(200), np.int8)
    rows = {"encoder_l1_self_bq": arrays["encoder_l1_self_bq"][0], "Wemb": np.asfortranarray(arrays["Wemb"])}
    np.savez(tmp_path / "theirs.npz", **{**rows, "special:model.yml": text})
    model = read_model(tmp_path / "theirs.npz")
    assert model.shapes["encoder_l1_self_bq"] == (1, 128), "a row, as Marian reads it"
    np.testing.assert_array_equal(model["Wemb"], arrays["Wemb"])
    assert model.options_text == OPTIONS, "all of the padding is taken off"


def test_8_bits_are_those_of_intgemm(tmp_path, arrays):
    path = tmp_path / "model.bin"
    activations = {"Wemb": 8.75, "encoder_l1_self_Wq": 12.5, "none": 8.75}
    write_bin(path, lazy(arrays), OPTIONS, Quantization({}, activations))
    items = {item.name: item for item in read_items(path)}
    assert list(items) == [*sorted(set(items) - {"special:model.yml"}, key=str.encode), "special:model.yml"]
    matrix, array = items["encoder_l1_self_Wq"], arrays["encoder_l1_self_Wq"]
    assert matrix.type_code == INTGEMM8 and matrix.num_bytes % 256 == 0
    multiplier = np.float32(127) / np.abs(array).max()
    expected = np.rint(array * multiplier).astype(np.int8)
    stored = np.frombuffer(matrix.read(), np.int8, array.size)
    np.testing.assert_array_equal(stored.reshape(128, 64), expected.T), "matrices are stored transposed"
    np.testing.assert_allclose(np.frombuffer(matrix.read(), "<f4", 1, array.size)[0], multiplier, rtol=1e-6)
    stored = np.frombuffer(items["Wemb"].read(), np.int8, arrays["Wemb"].size).reshape(16, 64)
    expected = np.rint(arrays["Wemb"] * (np.float32(127) / np.abs(arrays["Wemb"]).max()))
    np.testing.assert_array_equal(stored, expected)
    assert items["encoder_l1_self_bq"].type_code == FLOAT32
    # Bergamot keeps the multiplier of `Wemb` as a matrix of one number in 8 bits.
    assert items["Wemb_QuantMultA"].type_code == INTGEMM8
    assert items["encoder_l1_self_Wq_QuantMultA"].type_code == FLOAT32
    model = read_model(path)
    assert model.quantization.activations == pytest.approx(activations)
    np.testing.assert_allclose(model["Wemb"], arrays["Wemb"], atol=np.abs(arrays["Wemb"]).max() / 254 * 1.001)


def test_8_bits_survive_any_number_of_round_trips(tmp_path, arrays):
    write_bin(tmp_path / "first.bin", lazy(arrays), OPTIONS, Quantization())
    first = read_model(tmp_path / "first.bin")
    write_bin(tmp_path / "second.bin", first.arrays(), first.options_text, first.quantization)
    assert (tmp_path / "first.bin").read_bytes() == (tmp_path / "second.bin").read_bytes()
    # Without the multipliers the weights are still the same.
    write_bin(tmp_path / "third.bin", first.arrays(), first.options_text, Quantization())
    third = read_model(tmp_path / "third.bin")
    for name in first.shapes:
        np.testing.assert_array_equal(first[name], third[name])


def test_quantize_takes_a_multiplier_only_for_the_weights_it_made():
    weights = np.array([[1.0, -2.0, 0.3]], np.float32)
    numbers, multiplier = quantize(weights)
    assert numbers.tolist() == [[64, -127, 19]] and multiplier == np.float32(63.5)
    restored = numbers * (np.float32(1) / np.float32(63.500004))
    assert quantize(restored, 63.500004)[1] == np.float32(63.500004)
    assert quantize(weights, 63.500004)[1] == np.float32(63.5)
    assert quantize(np.zeros((2, 2), np.float32))[0].tolist() == [[0, 0], [0, 0]]


def test_items_that_are_read_are_written_as_the_same_file(tmp_path, arrays):
    write_bin(tmp_path / "model.bin", lazy(arrays), OPTIONS, Quantization())
    write_items(tmp_path / "again.bin", read_items(tmp_path / "model.bin"))
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()


@pytest.mark.parametrize("length", [0, 120, 136, 137])
def test_the_data_start_at_a_multiple_of_256(tmp_path, length):
    item = Item("n" * (length + 1), FLOAT32, (1, 1), 256, lambda: bytes(256))
    write_items(tmp_path / "model.bin", [item])
    assert ((tmp_path / "model.bin").stat().st_size - 256) % 256 == 0
    assert read_items(tmp_path / "model.bin")[0].array().tolist() == [[0.0]]


def test_half_and_double_precision_are_read(tmp_path):
    for code, dtype in ((0x402, np.float16), (0x408, np.float64)):
        data = np.array([[0.5, -2.0]], dtype).tobytes()
        item = Item("encoder_l1_self_bq", code, (1, 2), len(data), lambda data=data: data)
        text = Item("special:model.yml", TEXT, (5,), 5, lambda: b"a: 1\0")
        write_items(tmp_path / "model.bin", [item, text])
        assert read_model(tmp_path / "model.bin")["encoder_l1_self_bq"].tolist() == [[0.5, -2.0]]


def test_options_are_written_as_marian_writes_them():
    options = {"type": "transformer", "dim-vocabs": [32000, 32000], "skip": False, "transformer-preprocess": ""}
    text = dump_options({**options, "input-types": [], "version": "v1.9.56 94aeaa46 2021-04-28 00:28:35 +0100"})
    assert text.split("\n") == [
        "dim-vocabs:",
        "  - 32000",
        "  - 32000",
        "input-types: []",
        "skip: false",
        'transformer-preprocess: ""',
        "type: transformer",
        "version: v1.9.56 94aeaa46 2021-04-28 00:28:35 +0100",
    ]
    odd = {"a": "true", "b": "1.5", "c": "x: y", "d": "# no", "e": "'", "f": [True, 0.5, "~"], "g": "ã\n"}
    assert parse_options(dump_options(odd)) == odd
    with pytest.raises(ValueError, match="`a` must be text, a number or a truth value, got None"):
        dump_options({"a": None})


def test_a_matrix_that_intgemm_cannot_multiply_by_is_refused(tmp_path, arrays):
    for name, shape, inner, outer in (("Wemb", (15, 64), 64, 15), ("encoder_l1_self_Wq", (32, 8), 32, 8)):
        with pytest.raises(ValueError, match=f"`{name}` has {inner} and {outer}. Write float32"):
            write_bin(tmp_path / "model.bin", lazy({name: np.ones(shape, np.float32)}), OPTIONS, Quantization())
    assert not (tmp_path / "model.bin").exists()
    with pytest.raises(ValueError, match="activations must be those of a matrix in 8 bits, got 'encoder_l9_self_Wq'"):
        write_bin(tmp_path / "model.bin", lazy(arrays), OPTIONS, Quantization({}, {"encoder_l9_self_Wq": 1.0}))


@pytest.mark.parametrize("quantization", [None, Quantization({}, {"Wemb": 3.0})])
@pytest.mark.parametrize("name", ["model.npz", "model.bin"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, arrays, name, quantization):
    if name.endswith("npz"):
        write_npz(tmp_path / name, lazy(arrays), OPTIONS)
    else:
        write_bin(tmp_path / name, lazy(arrays), OPTIONS, quantization)
    content = (tmp_path / name).read_bytes()
    lengths = [*range(0, 700, 7), len(content) // 2, len(content) - 200, len(content) - 1]
    for length in lengths:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"The model file '.*cut' cannot be read"):
            read_model(tmp_path / "cut")
    (tmp_path / "long").write_bytes(content + b"more")
    if name.endswith("bin"):
        with pytest.raises(ValueError, match="4 bytes behind its last item"):
            read_model(tmp_path / "long")


ONE = struct.pack("<2i", 1, 1)


def _binary(heads, names=b"a\0", shapes=ONE, padding=0, data=bytes(256)) -> bytes:
    packed = b"".join(struct.pack("<4Q", *head) for head in heads)
    return struct.pack("<2Q", 1, len(heads)) + packed + names + shapes + struct.pack("<Q", padding) + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<2Q", 1, 2**60), "items do not fit into 16 bytes"),
        (struct.pack("<2Q", 7, 1), "neither an .npz nor a .bin of version 1: it starts with 0x7"),
        (_binary([(2**63, FLOAT32, 2, 256)]), "the name of item 0 of 9223372036854775808 bytes"),
        (_binary([(2, FLOAT32, 2**40, 256)]), "`a` has 1099511627776 dimensions"),
        (_binary([(2, FLOAT32, 2, 2**62)]), "`a` of 4611686018427387904 bytes"),
        (_binary([(2, FLOAT32, 2, 256)], shapes=struct.pack("<2i", 2**30, 2**30)), "needs 4611686018427387904 bytes"),
        (_binary([(2, FLOAT32, 2, 256)], shapes=struct.pack("<2i", -1, 4)), r"`a` has the shape \(-1, 4\)"),
        (_binary([(2, FLOAT32, 2, 256)], padding=2**63), "padding of 9223372036854775808 bytes"),
        (_binary([(2, FLOAT32, 2, 256)], names=b"ab"), "the name of item 0 does not end where it should"),
        (_binary([(1, FLOAT32, 2, 256)], names=b"\0"), "item 0 has no name of its own"),
        (_binary([(2, FLOAT32, 2, 256)], names=b"\xff\0"), "'utf-8' codec can't decode"),
        (_binary([(2, 0x1801, 2, 256)]), "`a` is of the type 0x1801, 8 bits packed by fbgemm for AVX2"),
        (_binary([(2, 0x9999, 2, 256)]), "0x9999, an unknown type"),
        (_binary([(2, FLOAT32, 2, 256)]), "holds no `special:model.yml`"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "pointer of Git LFS: run `git lfs pull`"),
    ],
)
def test_damaged_binaries_are_refused(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path / "model.bin")


def _with_text(item: Item, text: bytes, type_code: int = TEXT) -> list[Item]:
    return [item, Item("special:model.yml", type_code, (len(text),), len(text), lambda: text)]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            _with_text(Item("a", INTGEMM8, (1, 4), 8, lambda: bytes(8)), b"x: 1"),
            "the multiplier of `a` must be positive",
        ),
        (
            _with_text(Item("a", FLOAT32, (1, 1), 4, lambda: b"\0\0\x80\x7f"), b"x: 1"),
            "`a` holds a number that is not",
        ),
        (_with_text(Item("a", FLOAT32, (1, 1), 4, lambda: bytes(4)), b"- 1"), "options must be a mapping of names"),
        (
            _with_text(Item("a", FLOAT32, (1, 1), 4, lambda: bytes(4)), b"a: &x 1\nb: *x"),
            "the alias `\\*x` is not taken",
        ),
        (_with_text(Item("a", FLOAT32, (1, 1), 4, lambda: bytes(4)), b"\xff"), "can't decode"),
        (_with_text(Item("a", FLOAT32, (1, 1), 4, lambda: bytes(4)), b"a: 1", 0x401), "type 0x401, not text"),
        (
            _with_text(Item("a_QuantMultA", FLOAT32, (1, 2), 8, lambda: bytes(8)), b"a: 1"),
            "`a_QuantMultA` must be one positive number",
        ),
    ],
)
def test_items_that_mean_nothing_are_refused(tmp_path, items, message):
    write_items(tmp_path / "model.bin", items)
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path / "model.bin")["a"]


def _npz(path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _npy(array: np.ndarray, **changes) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array)
    data = content.getvalue()
    for old, new in changes.items():
        data = data.replace(old.encode(), str(new).encode().ljust(len(old)))
    return data


def test_damaged_archives_are_refused(tmp_path):
    path, text = tmp_path / "model.npz", _npy(np.frombuffer(b"a: 1\0", np.int8))
    options = {"special:model.yml.npy": text}
    _npz(path, {**options, "readme.txt": b""})
    with pytest.raises(ValueError, match=r"its member 'readme.txt' is no array"):
        read_model(path)
    _npz(path, {**options, "a.npy": _npy(np.zeros((1, 4), np.float32)).replace(b"(1, 4), ", b"(1<<60,)")})
    with pytest.raises(ValueError, match="cannot be read"):
        read_model(path)
    _npz(path, {**options, "a.npy": _npy(np.zeros((1, 4), np.float32)).replace(b"(1, 4), }", b"(1, 9**9)")})
    with pytest.raises(ValueError, match="cannot be read"):
        read_model(path)
    _npz(path, {**options, "a.npy": _npy(np.zeros((1, 4), np.float32)).replace(b"(1, 4)", b"(9, 4)")})
    with pytest.raises(ValueError, match=r"`a` of shape \(9, 4\) needs 144 bytes, and has 16"):
        read_model(path)
    _npz(path, {**options, "a.npy": _npy(np.zeros((1, 4), np.int32))})
    with pytest.raises(ValueError, match=r"`a` of shape .* is of dtype int32; weights are floating point numbers"):
        read_model(path)
    _npz(path, {"a.npy": _npy(np.zeros((1, 4), np.float32))})
    with pytest.raises(ValueError, match=r"holds no `special:model.yml`, without which nobody knows"):
        read_model(path)
    assert read_model(path, {"type": "transformer"}).options == {"type": "transformer"}
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([print], object), allow_pickle=True)
    _npz(path, {**options, "a.npy": buffer.getvalue()})
    with pytest.raises(ValueError, match="`a` is a pickle, which may run code: it is not opened"):
        read_model(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"neither an .npz nor a .bin"):
        read_model(path)


def test_an_archive_that_would_grow_without_bound_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    content = _npy(np.zeros((1, 1 << 20), np.float32))
    _npz(
        path,
        {"special:model.yml.npy": _npy(np.frombuffer(b"a: 1\0", np.int8)), "a.npy": content},
        zipfile.ZIP_DEFLATED,
    )
    assert read_model(path)["a"].shape == (1, 1 << 20), "zeros as deflate compresses them are taken"
    data = bytearray(path.read_bytes())
    claimed = struct.pack("<I", len(content))
    for start in [place for place in range(len(data)) if data[place : place + 4] == claimed]:
        data[start : start + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="`a` claims 4294967294 bytes, compressed into"):
        read_model(path)


@pytest.mark.parametrize("name", ["model.npz", "model.bin"])
def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path, arrays, name):
    if name.endswith("npz"):
        write_npz(tmp_path / name, lazy(arrays), OPTIONS)
    else:
        write_bin(tmp_path / name, lazy(arrays), OPTIONS, Quantization({}, {"Wemb": 3.0}))
    content = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    num_refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        # Most of a file is numbers; its structure is at both ends.
        places = generator.integers(0, 600, 3) * generator.choice([1, -1])
        for place in places:
            damaged[place] = generator.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            model = read_model(tmp_path / "damaged")
            for array_name in model.shapes:
                model[array_name]
        except ValueError as error:
            assert "damaged' cannot be read" in str(error)
            num_refused += 1
    assert num_refused > 100


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_model(tmp_path / "model.bin")
    (tmp_path / "model.bin").touch()
    with pytest.raises(ValueError, match="it is empty"):
        read_model(tmp_path / "model.bin")
    with pytest.raises(KeyError, match="b"):
        (tmp_path / "m.npz").write_bytes(b"")
        write_npz(tmp_path / "m.npz", lazy({"a": np.ones((1, 1), np.float32)}), "x: 1")
        read_model(tmp_path / "m.npz")["b"]
