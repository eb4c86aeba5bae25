# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Reads and writes Marian's model files: `.npz`, and `.bin` in float32 or in the 8 bits of intgemm (Bergamot, Firefox).

A `.bin` is little endian: `uint64` version (1) and number of items; for each item four `uint64`, the length of its
name with the final zero, its type, its number of dimensions and its bytes; then all names; all shapes, `int32` a
dimension; a `uint64` of padding and that much of it; then the bytes of one item after another, in multiples of 256
but for the last, `special:model.yml`, which is text. An `.npz` is what `numpy.savez` writes, with the same names.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import yaml

from ...text.plain_yaml import read_yaml


OPTIONS_NAME = "special:model.yml"
ALPHA_ENDING = "_QuantMultA"
"""Follows a matrix's name in that of its multiplier of activations (Bergamot's "alphas")."""

TEXT, FLOAT32, INTGEMM8 = 0x101, 0x404, 0x4101
_FLOATS = {0x402: "<f2", FLOAT32: "<f4", 0x408: "<f8"}
_UNREADABLE_TYPES = {
    0x802: "16 bits packed by fbgemm",
    0x1801: "8 bits packed by fbgemm for AVX2",
    0x2801: "8 bits packed by fbgemm for AVX512",
    0x4102: "16 bits of intgemm",
}
_VERSION = 1
_HEADER = struct.Struct("<QQ")
_ITEM = struct.Struct("<QQQQ")
_BOUNDARY = 256
_MOST_DIMENSIONS = 8
_MOST_OPTIONS_BYTES = 1 << 20
# More than deflate can reach: a member or a file that claims more is no archive of weights.
_BEST_COMPRESSION = 1100
_LFS_POINTER = b"version https://git-lfs"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Item:
    """
    A named part of a `.bin`.

    Attributes:
        name: As in the file, without the final zero.
        type_code: `TEXT`, `FLOAT32`, `INTGEMM8`, or another of Marian's.
        shape: Dimensions.
        num_bytes: Of its bytes, padding included.
        read: Returns these bytes.
    """

    name: str
    type_code: int
    shape: tuple[int, ...]
    num_bytes: int
    read: Callable[[], bytes | memoryview]

    def quantized(self) -> tuple[np.ndarray, np.float32]:
        """
        The matrix of an `INTGEMM8` item, int8 of `shape`, and what it was multiplied by.

        Raises:
            ValueError: The multiplier is not a positive number.
        """
        data, count = self.read(), math.prod(self.shape)
        multiplier = np.frombuffer(data, "<f4", 1, count)[0]
        if not 0 < multiplier < np.inf:
            raise ValueError(f"the multiplier of `{self.name}` must be positive and finite, got {multiplier}")
        numbers = np.frombuffer(data, np.int8, count)
        if _is_transposed(self.name):
            return numbers.reshape(self.shape[::-1]).T, multiplier
        return numbers.reshape(self.shape), multiplier

    def array(self) -> np.ndarray:
        """
        The item's numbers as float32 of `shape`; 8 bits are divided by their multiplier, as the engines do it.

        Raises:
            ValueError: It is text, of a type that cannot be read, or holds a number that is not finite.
        """
        if self.type_code == INTGEMM8:
            numbers, multiplier = self.quantized()
            return numbers.astype(np.float32) * (np.float32(1) / multiplier)
        if self.type_code not in _FLOATS:
            raise ValueError(_type_message(self.name, self.type_code))
        numbers = np.frombuffer(self.read(), _FLOATS[self.type_code], math.prod(self.shape))
        return _finite(self.name, numbers.reshape(self.shape))


@dataclass(frozen=True)
class Quantization:
    """
    The multipliers of a file in 8 bits.

    Attributes:
        weights: The multiplier of a matrix, by its name.
        activations: The multiplier of the activations that meet a matrix, by its name (Bergamot's "alphas"); `none` is
            Bergamot's name for the output projection under a shortlist. Empty: the engine looks for the largest
            activation of each product.
    """

    weights: dict[str, float] = field(default_factory=dict)
    activations: dict[str, float] = field(default_factory=dict)


class LazyArray(NamedTuple):
    """An array to be written: its name, its shape, and what returns it as float32 when its turn comes."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class ModelFile:
    """
    A model file: named float32 arrays, read when they are asked for, and the options of the model.

    Attributes:
        path: Where it was read.
        shapes: Of the arrays, by name, in the file's order.
        options: What `special:model.yml` says.
        options_text: Its text.
        quantization: Of a file in 8 bits.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    options: dict[str, Any]
    options_text: str
    quantization: Quantization | None
    read: Callable[[str], np.ndarray] = field(repr=False)

    def arrays(self) -> Iterator[LazyArray]:
        """The arrays as `write_bin` and `write_npz` take them."""
        for name, shape in self.shapes.items():
            yield LazyArray(name, shape, partial(self.__getitem__, name))

    def __getitem__(self, name: str) -> np.ndarray:
        """
        The array of a name, float32.

        Raises:
            KeyError: There is none of this name.
            ValueError: It cannot be read, or holds a number that is not finite.
        """
        if name not in self.shapes:
            raise KeyError(name)
        with _reading(self.path):
            return self.read(name)


def read_model(path: str | Path, options: Mapping[str, Any] | None = None) -> ModelFile:
    """
    Opens a model file, `.npz` or `.bin`, or one of them in gzip; which it is, its first bytes say.

    A `.bin` is mapped into memory, and one array after another is read from it.

    Args:
        path: The file.
        options: Options of the model, for a file without `special:model.yml`.

    Raises:
        ValueError: The file cannot be read, is of another kind, is damaged or cut short, holds arrays of a type that
            cannot be read, or no options.
    """
    path = Path(path)
    with _reading(path):
        content = read_bytes(path)
        if bytes(content[:4]) == b"PK\x03\x04":
            return _open_npz(path, content, options)
        return _open_bin(path, _parse_items(content), options)


def read_items(path: str | Path) -> list[Item]:
    """
    The items of a `.bin`, in order; `write_items` writes the same file again.

    Raises:
        ValueError: The file cannot be read, is of another kind, is damaged or cut short.
    """
    path = Path(path)
    with _reading(path):
        return _parse_items(read_bytes(path))


def write_items(path: str | Path, items: Sequence[Item]) -> None:
    """Writes a `.bin` of `items`, each read when its turn comes."""
    names = [item.name.encode() + b"\0" for item in items]
    head = [_HEADER.pack(_VERSION, len(items))]
    for name, item in zip(names, items, strict=True):
        head.append(_ITEM.pack(len(name), item.type_code, len(item.shape), item.num_bytes))
    head += names
    head += [struct.pack(f"<{len(item.shape)}i", *item.shape) for item in items]
    position = sum(map(len, head)) + 8
    # Marian writes a whole block where none is missing.
    padding = _BOUNDARY - position % _BOUNDARY
    with open(path, "wb") as file:
        file.writelines([*head, struct.pack("<Q", padding), bytes(padding)])
        for item in items:
            data = item.read()
            if len(data) != item.num_bytes:
                raise ValueError(f"`{item.name}` must have {item.num_bytes} bytes, got {len(data)}.")
            file.write(data)


def write_bin(
    path: str | Path,
    arrays: Iterable[LazyArray],
    options_text: str,
    quantization: Quantization | None = None,
) -> None:
    """
    Writes a `.bin`: items sorted by name, as Marian's, then the options.

    Args:
        path: The file.
        arrays: In any order.
        options_text: What becomes `special:model.yml`.
        quantization: Matrices in 8 bits of intgemm, each with `max |w|` at 127, as `marian-conv --gemm-type intgemm8`
            does. A multiplier in `weights` is taken where the matrix is still the one it was made for. `None`:
            float32.

    Raises:
        ValueError: intgemm cannot multiply by a matrix of this shape; or an activation has no matrix.
    """
    items = {}
    for name, shape, load in arrays:
        if quantization is not None and is_quantized_name(name):
            check_intgemm_shape(name, shape)
            items[name] = _quantized_item(name, shape, load, quantization.weights.get(name))
        else:
            items[name] = _float_item(name, shape, load)
    for name, multiplier in (quantization.activations if quantization else {}).items():
        if name != "none" and "Wemb" not in name and (name not in items or items[name].type_code != INTGEMM8):
            raise ValueError(f"`quantization`: activations must be those of a matrix in 8 bits, got {name!r}.")
        scalar = np.full((1, 1), multiplier, np.float32)
        # Bergamot's converter takes that of `Wemb` for a matrix, and its engine reads it as one.
        make = _quantized_item if "Wemb" in name else _float_item
        items[name + ALPHA_ENDING] = make(name + ALPHA_ENDING, (1, 1), partial(np.array, scalar))
    text = options_text.encode() + b"\0"
    ordered = [items[name] for name in sorted(items, key=str.encode)]
    write_items(path, [*ordered, Item(OPTIONS_NAME, TEXT, (len(text),), len(text), lambda: text)])


def write_npz(
    path: str | Path,
    arrays: Iterable[LazyArray],
    options_text: str,
) -> None:
    """Writes an `.npz` in float32, uncompressed, one array at a time; arguments as `write_bin`."""
    text = np.frombuffer(options_text.encode() + b"\0", np.int8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        entries = sorted(arrays, key=lambda array: array.name.encode())
        for name, shape, load in [*entries, LazyArray(OPTIONS_NAME, text.shape, lambda: text)]:
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            with archive.open(member, "w", force_zip64=math.prod(shape) >= 1 << 28) as file:
                np.lib.format.write_array(file, _of_shape(name, shape, load()), version=(1, 0), allow_pickle=False)


def read_bytes(path: str | Path) -> memoryview:
    """
    The bytes of a file, mapped into memory; of a file in gzip, what it holds.

    Raises:
        ValueError: What is in gzip is larger than gzip can make it, or damaged.
        OSError: The file cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        raise ValueError("it is empty")
    mapped: Any = np.memmap(path, np.uint8, "r")
    content = memoryview(mapped)
    if bytes(content[: len(_LFS_POINTER)]) == _LFS_POINTER:
        raise ValueError("it is a pointer of Git LFS: run `git lfs pull` for the file itself")
    if bytes(content[:2]) == b"\x1f\x8b":
        with gzip.open(path) as file:
            return memoryview(file.read(size * _BEST_COMPRESSION))
    return content


def check_intgemm_shape(name: str, shape: tuple[int, ...]) -> None:
    """
    Refuses a matrix that the kernels of intgemm cannot multiply by.

    Raises:
        ValueError: With what must be a multiple of what.
    """
    inner, outer = shape[::-1] if "Wemb" in name else shape
    if inner % 64 or outer % 8:
        raise ValueError(
            f"8 bits need inner dimensions that are multiples of 64 and outer ones that are multiples of 8, and "
            f"`{name}` has {inner} and {outer}. Write float32, or use another `d_model`, feed-forward or vocabulary."
        )


def dump_options(options: Mapping[str, Any]) -> str:
    """
    The text of options as Marian writes it: sorted, one a line, a list's values in lines of their own.

    Raises:
        ValueError: A value is none of Marian's kinds: text, number, truth value or list of these.
    """
    lines = []
    for name in sorted(options):
        value = options[name]
        if isinstance(value, list) and value:
            lines.append(f"{name}:")
            lines += [f"  - {_scalar(name, element)}" for element in value]
        else:
            lines.append(f"{name}: {'[]' if isinstance(value, list) else _scalar(name, value)}")
    return "\n".join(lines)


def parse_options(text: str) -> dict[str, Any]:
    """
    The options in a yaml text.

    Raises:
        ValueError: It is no yaml, or no mapping of names to values.
    """
    options = read_yaml(text)
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"options must be a mapping of names to values, got {type(options).__name__}")
    return options


def _scalar(name: str, value: Any) -> str:
    if not isinstance(value, (str, bool, int, float)):
        raise ValueError(f"`{name}` must be text, a number or a truth value, got {value!r}.")
    if isinstance(value, str):
        # Quoted only where another kind of value would be read.
        try:
            is_plain = bool(value) and read_yaml(value) == value and "#" not in value and ": " not in value
        except ValueError:
            is_plain = False
        return value if is_plain else yaml.safe_dump(value, default_style='"', width=2**20).strip()
    return yaml.safe_dump(value).split("\n")[0]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong in reading `path` into a `ValueError` that names it."""
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise ValueError(f"The model file {str(path)!r} cannot be read: {error}.") from error


def _parse_items(content: memoryview) -> list[Item]:
    size = len(content)
    if size < _HEADER.size:
        raise ValueError(f"it is cut short: {size} bytes hold no header")
    version, count = _HEADER.unpack_from(content)
    if version != _VERSION:
        raise ValueError(f"it is neither an .npz nor a .bin of version {_VERSION}: it starts with {version:#x}")
    position = _HEADER.size
    if count > (size - position) // _ITEM.size:
        raise ValueError(f"it is cut short: {count} items do not fit into {size} bytes")
    heads = [_ITEM.unpack_from(content, position + place * _ITEM.size) for place in range(count)]
    position += count * _ITEM.size

    def advance(length: int, what: str) -> memoryview:
        nonlocal position
        if length > size - position:
            raise ValueError(f"it is cut short: {what} of {length} bytes at {position}, and the file has {size}")
        position += length
        return content[position - length : position]

    names: list[str] = []
    for place, (name_length, *_) in enumerate(heads):
        encoded = bytes(advance(name_length, f"the name of item {place}"))
        if not encoded.endswith(b"\0"):
            raise ValueError(f"the name of item {place} does not end where it should")
        name = encoded[:-1].decode("utf-8")
        if name in names[-1:] or not name:
            raise ValueError(f"item {place} has no name of its own")
        names.append(name)
    if len(set(names)) != len(names):
        raise ValueError("two items have the same name")
    shapes = []
    for name, (_, _, num_dimensions, _) in zip(names, heads, strict=True):
        if num_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"`{name}` has {num_dimensions} dimensions")
        shape = struct.unpack(f"<{num_dimensions}i", advance(4 * num_dimensions, f"the shape of `{name}`"))
        if min(shape, default=1) < 1:
            raise ValueError(f"`{name}` has the shape {shape}")
        shapes.append(shape)
    (padding,) = struct.unpack("<Q", advance(8, "the length of the padding"))
    advance(padding, "padding")
    items = []
    for name, shape, (_, type_code, _, num_bytes) in zip(names, shapes, heads, strict=True):
        needed = math.prod(shape) * (type_code & 0xFF) + (4 if type_code == INTGEMM8 else 0)
        if num_bytes < needed:
            raise ValueError(f"`{name}` of shape {shape} needs {needed} bytes, and has {num_bytes}")
        data = advance(num_bytes, f"`{name}`")
        items.append(Item(name, type_code, shape, num_bytes, partial(_same, data)))
    if position != size:
        raise ValueError(f"it has {size - position} bytes behind its last item")
    return items


def _open_bin(path: Path, items: list[Item], options: Mapping[str, Any] | None) -> ModelFile:
    by_name = {item.name: item for item in items}
    text_item = by_name.pop(OPTIONS_NAME, None)
    text = None
    if text_item is not None:
        if text_item.type_code != TEXT:
            raise ValueError(f"`{OPTIONS_NAME}` is of the type {text_item.type_code:#x}, not text")
        text = bytes(text_item.read())
    for item in by_name.values():
        if item.type_code not in _FLOATS and item.type_code != INTGEMM8:
            raise ValueError(_type_message(item.name, item.type_code))
    alphas = {name: item.array() for name, item in by_name.items() if name.endswith(ALPHA_ENDING)}
    arrays = {name: item for name, item in by_name.items() if name not in alphas}
    quantized = [item for item in arrays.values() if item.type_code == INTGEMM8]
    return _model_file(
        path,
        text,
        options,
        shapes={name: item.shape for name, item in arrays.items()},
        multipliers={item.name: float(item.quantized()[1]) for item in quantized},
        alphas=alphas,
        read=lambda name: arrays[name].array(),
    )


def _open_npz(path: Path, content: memoryview, options: Mapping[str, Any] | None) -> ModelFile:
    archive = zipfile.ZipFile(io.BytesIO(content) if isinstance(content.obj, bytes) else path)
    members = {}
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            raise ValueError(f"its member {member.filename!r} is no array: numpy calls them *.npy")
        members[member.filename.removesuffix(".npy")] = member
    if len(members) != len(archive.infolist()):
        raise ValueError("two members have the same name")
    heads = {name: _npy_head(archive, name, member) for name, member in members.items()}
    text = None
    if OPTIONS_NAME in members:
        if heads.pop(OPTIONS_NAME)[2].itemsize != 1:
            raise ValueError(f"`{OPTIONS_NAME}` is no text")
        text = bytes(_npy_array(archive, members[OPTIONS_NAME]))
    for name, (shape, _, dtype) in heads.items():
        if dtype.kind != "f":
            raise ValueError(f"`{name}` of shape {shape} is of dtype {dtype}; weights are floating point numbers")
    alphas = {name: _npy_array(archive, members[name]) for name in heads if name.endswith(ALPHA_ENDING)}
    return _model_file(
        path,
        text,
        options,
        # As Marian reads them: a row.
        shapes={
            name: (1, *head[0]) if len(head[0]) == 1 else head[0] for name, head in heads.items() if name not in alphas
        },
        multipliers={},
        alphas=alphas,
        read=lambda name: _finite(name, np.atleast_2d(_npy_array(archive, members[name]))),
    )


def _npy_head(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype that a member claims; refused where its bytes are fewer or more."""
    if member.file_size > max(member.compress_size, 1) * _BEST_COMPRESSION:
        raise ValueError(f"`{name}` claims {member.file_size} bytes, compressed into {member.compress_size}")
    with archive.open(member) as file:
        shape, is_fortran, dtype = _read_npy_head(file)
        if dtype.hasobject:
            raise ValueError(f"`{name}` is a pickle, which may run code: it is not opened")
        needed = math.prod(shape) * dtype.itemsize
        if needed != member.file_size - file.tell():
            raise ValueError(
                f"`{name}` of shape {shape} needs {needed} bytes, and has {member.file_size - file.tell()}"
            )
    return shape, is_fortran, dtype


def _npy_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        shape, is_fortran, dtype = _read_npy_head(file)
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_npy_head(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of npy is not known")
    try:
        shape, is_fortran, dtype = readers[version](file)
    except (SyntaxError, TokenError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f"the header of a member is damaged: {error}") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"a member has the shape {shape}")
    return shape, is_fortran, dtype


def _model_file(
    path: Path,
    text: bytes | None,
    options: Mapping[str, Any] | None,
    shapes: dict[str, tuple[int, ...]],
    multipliers: dict[str, float],
    alphas: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
) -> ModelFile:
    if text is None and options is None:
        raise ValueError(
            f"it holds no `{OPTIONS_NAME}`, without which nobody knows what its arrays mean. Put the options of its "
            "training beside it, as `<file>.yml`, or have `marian-conv` write it again"
        )
    if text is None:
        options_text, parsed = dump_options(options or {}), dict(options or {})
    else:
        if len(text) > _MOST_OPTIONS_BYTES:
            raise ValueError(f"`{OPTIONS_NAME}` has {len(text)} bytes")
        # One zero in files of old, up to 256 in those of today.
        options_text = text.rstrip(b"\0").decode("utf-8")
        try:
            parsed = parse_options(options_text)
        except ValueError as error:
            raise ValueError(f"`{OPTIONS_NAME}`: {error}") from error
    scalars = {}
    for name, array in alphas.items():
        if array.size != 1 or not 0 < array.reshape(-1)[0] < np.inf:
            raise ValueError(f"`{name}` must be one positive number, got {array.reshape(-1)[:3]}")
        scalars[name.removesuffix(ALPHA_ENDING)] = float(array.reshape(-1)[0])
    quantization = Quantization(multipliers, scalars) if multipliers or scalars else None
    return ModelFile(path, shapes, parsed, options_text, quantization, read)


def is_quantized_name(name: str) -> bool:
    """Whether marian-conv stores the array of this name in 8 bits."""
    return "Wemb" in name or (len(name) > 3 and name.find("_W") in (len(name) - 2, len(name) - 3))


def _is_transposed(name: str) -> bool:
    """Whether marian-conv stores the matrix of this name in 8 bits transposed."""
    return "Wemb" not in name


def _float_item(name: str, shape: tuple[int, ...], load: Callable[[], np.ndarray]) -> Item:
    num_bytes = _padded(4 * math.prod(shape))
    return Item(name, FLOAT32, shape, num_bytes, lambda: _pad(_of_shape(name, shape, load()).tobytes(), num_bytes))


def _quantized_item(
    name: str, shape: tuple[int, ...], load: Callable[[], np.ndarray], multiplier: float | None = None
) -> Item:
    num_bytes = _padded(math.prod(shape) + 4)

    def read() -> bytes:
        numbers, used = quantize(_of_shape(name, shape, load()), multiplier)
        stored = numbers.T if _is_transposed(name) else numbers
        return _pad(stored.tobytes() + used.astype("<f4").tobytes(), num_bytes)

    return Item(name, INTGEMM8, shape, num_bytes, read)


def quantize(weights: np.ndarray, multiplier: float | None = None) -> tuple[np.ndarray, np.float32]:
    """
    A matrix in 8 bits as intgemm has it: the largest magnitude at 127, ties to the even number.

    Weights that were in 8 bits come back as the same bytes. What they were multiplied by is known up to a rounding
    only, unless it is given.

    Args:
        weights: float32.
        multiplier: What they were multiplied by, if they are still the same.

    Returns:
        int8 of the same shape, and the multiplier.
    """
    largest = np.abs(weights).max(initial=0)
    own = np.float32(127) / largest if largest > 0 else np.float32(1)
    numbers = np.rint(weights * own).clip(-127, 127).astype(np.int8)
    neighbours = [np.nextafter(own, np.float32(end)) for end in (0, np.inf)]
    for candidate in (own if multiplier is None else np.float32(multiplier), own, *neighbours):
        if np.array_equal(numbers * (np.float32(1) / candidate), weights):
            return numbers, candidate
    return numbers, own


def _of_shape(name: str, shape: tuple[int, ...], array: np.ndarray) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"`{name}` must have the shape {shape}, got {array.shape}.")
    return np.ascontiguousarray(array)


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds a number that is not finite")
    return array


def _type_message(name: str, type_code: int) -> str:
    known = _UNREADABLE_TYPES.get(type_code, "an unknown type")
    return (
        f"`{name}` is of the type {type_code:#x}, {known}. Floating point ({', '.join(map(hex, _FLOATS))}) and 8 bits "
        f"of intgemm ({INTGEMM8:#x}) can be read: take the .npz that this file was made from"
    )


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _BOUNDARY) * _BOUNDARY


def _same(data: memoryview) -> memoryview:
    return data


def _pad(data: bytes, num_bytes: int) -> bytes:
    return data.ljust(num_bytes, b"\0")
