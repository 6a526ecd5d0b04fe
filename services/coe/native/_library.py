"""The C interface of libcoe_native (include/coe/native.h) through ctypes."""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int32, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from coe.native._search import find_library
from coe.platform.errors import (
    CapacityExceeded,
    ChecksumMismatch,
    CoEError,
    DeadlineExceeded,
    InternalError,
    LeaseLost,
    TierLoadError,
)


class ArenaInfo(ctypes.Structure):
    _fields_ = (("capacity", c_uint64), ("epoch", c_uint64), ("slots", c_uint32), ("owner", c_uint32))


class SlotRecord(ctypes.Structure):
    _fields_ = (
        ("generation", c_uint64),
        ("offset", c_uint64),
        ("nbytes", c_uint64),
        ("watermark", c_uint64),
        ("tag", c_uint64),
        ("state", c_uint32),
        ("reserved", c_uint32),
    )


class LoadOptions(ctypes.Structure):
    _fields_ = (
        ("tag", c_uint64),
        ("nbytes", c_uint64),
        ("bytes_per_second", c_double),
        ("verify", c_int32),
        ("prefix_slot", c_int32),
        ("threads", c_uint32),
        ("reserved", c_uint32),
    )


class LoadInfo(ctypes.Structure):
    _fields_ = (("generation", c_uint64), ("bytes_copied", c_uint64), ("code", c_int32))


_OUT = POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "coe_last_error": (c_char_p, ()),
    "coe_isa": (c_char_p, ()),
    "coe_checksum": (c_uint32, (c_void_p, c_size_t)),
    "coe_set_threads": (c_int, (c_uint,)),
    "coe_arena_create": (c_int, (c_char_p, c_uint64, c_uint32, _OUT)),
    "coe_arena_adopt": (c_int, (c_char_p, c_uint64, c_uint32, _OUT)),
    "coe_arena_attach": (c_int, (c_char_p, _OUT)),
    "coe_arena_unlink": (c_int, (c_char_p,)),
    "coe_arena_info": (c_int, (c_void_p, POINTER(ArenaInfo))),
    "coe_arena_slot": (c_int, (c_void_p, c_uint32, POINTER(SlotRecord))),
    "coe_arena_load": (c_int, (c_void_p, c_uint32, c_uint64, c_void_p, POINTER(LoadOptions), _OUT)),
    "coe_arena_free": (c_int, (c_void_p, c_uint32)),
    "coe_arena_bind": (c_int, (c_void_p,)),
    "coe_arena_close": (None, (c_void_p,)),
    "coe_load_info": (c_int, (c_void_p, POINTER(LoadInfo))),
    "coe_load_wait": (c_int, (c_void_p, c_double)),
    "coe_load_cancel": (None, (c_void_p,)),
    "coe_load_release": (None, (c_void_p,)),
    "coe_file_open": (c_int, (c_char_p, POINTER(c_uint32), c_size_t, c_uint64, _OUT)),
    "coe_file_nbytes": (c_uint64, (c_void_p,)),
    "coe_file_lock": (c_int, (c_void_p, POINTER(c_int))),
    "coe_file_close": (None, (c_void_p,)),
}

_INVALID = 1
# coe::Code -> exception class.
_ERRORS: dict[int, type[CoEError]] = {
    2: TierLoadError,
    3: CapacityExceeded,
    4: LeaseLost,
    5: DeadlineExceeded,
    6: ChecksumMismatch,
    7: InternalError,
}


@cache
def library() -> ctypes.CDLL:
    """The loaded library. Calls release the GIL. Raises ArtifactError when it is not built."""
    loaded = ctypes.CDLL(str(find_library()))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    return loaded


def error_of(code: int) -> Exception:
    """The exception for a failed call of this thread: ValueError for bad arguments, else a CoEError."""
    message = library().coe_last_error().decode(errors="replace")
    if code == _INVALID:
        return ValueError(message)
    return _ERRORS.get(code, InternalError)(message)


def check(code: int) -> None:
    if code != 0:
        raise error_of(code)


def make_handle(function: str, *arguments: object) -> c_void_p:
    """Calls a C function whose last parameter is an out-pointer for a new handle."""
    handle = c_void_p()
    check(getattr(library(), function)(*arguments, byref(handle)))
    return handle


def ops_library_path() -> Path:
    """The library for `onnxruntime.SessionOptions.register_custom_ops_library`."""
    return find_library()


def instruction_set() -> str:
    """The instruction set of this process's kernels: `portable`, `avx2`, `avx512` or `amx` ($COE_NATIVE_ISA lowers
    it)."""
    return str(library().coe_isa().decode())


def set_threads(threads: int) -> None:
    """Sets the number of threads shared by all ops of this process. Sessions should have `intra_op_num_threads = 1`."""
    check(library().coe_set_threads(threads))


def checksum(data: bytes | bytearray | memoryview | np.ndarray[Any, Any]) -> int:
    """CRC-32C of the bytes, as stored in a bundle for each chunk of weights.coe."""
    view = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else np.ascontiguousarray(data)
    return int(library().coe_checksum(view.ctypes.data, view.nbytes))
