"""How every kernel is launched: one table, whatever executes it.

Grid and block follow from the size of the work by the rule that the table names; the argument types
are read off the kernel's own signature in the .cu text, so that they are stated once. Shared memory
is static: its size too is stated in the text alone.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

THREADS = 256  # a block, everywhere
BLOCKS = 4096  # the most in one direction of a grid: threads stride over what is left
ROWS_A_THREAD = 16  # of a sum over rows, before it is split between blocks
FEW = 256  # blocks whose partial sums every one of them can add up
CHUNKS = ROWS_A_THREAD * THREADS // 32  # the most parts of it: one block can add them up
NARROW = 512  # the most elements of a row that stay in the registers of a warp
SEQUENCES = 4  # that a block takes through all steps: ROWS in sequences.cuh
MANY_TILES = 64  # large ones: a block for every multiprocessor of most GPUs
MANY_BLOCKS = 128  # of a product whose depth is split
PART_DEPTH = 128  # the least of a part, worth its sums' way through memory
SHARED_FIELD = 4096  # numbers of an image's random field that shared memory holds: as in the text

HERE = Path(__file__).resolve().parents[1]
ROOMS = (HERE, HERE / "network", HERE / "include")  # of .cu and .cuh files
REALS = {"float32": "float", "float64": "double"}
MOST_KEPT = 4096  # numbers


@dataclass(frozen=True)
class Kernel:
    """Where an extern "C" kernel stands, and geometry(itemsize, *work) -> (grid, block)."""

    file: str
    geometry: Callable[..., tuple[tuple[int, ...], tuple[int, ...]]]


def pieces(itemsize, n):
    """One thread for every 16 bytes of n elements."""
    return (blocks(n, THREADS * 16 // itemsize),), (THREADS,)


def few(itemsize, n, rows=1):
    """As pieces, but so few blocks that each can add up what all have left; for every row."""
    return (min(FEW, blocks(n, THREADS * 16 // itemsize)), rows), (THREADS,)


def fours(itemsize, n):
    """One thread for every 4 of n elements, which share a block of random words."""
    return (blocks(n, THREADS * 4),), (THREADS,)


def columns(itemsize, units, chunks):
    """Blocks of (columns, rows); the rows are split between this many of them."""
    across = lanes(units)
    return (blocks(units, across), chunks), (across, THREADS // across)


def lanes_a_row(itemsize, rows, classes):
    """lanes(classes) threads for every row."""
    return (blocks(rows, THREADS // lanes(classes)),), (THREADS,)


def block_a_row(itemsize, rows, classes):
    """One block for every row."""
    return (blocks(rows, 1),), (THREADS,)


def threads_a_row(itemsize, rows, classes):
    """threads_of_row(classes) threads for every row."""
    return (blocks(rows, THREADS // threads_of_row(classes)),), (THREADS,)


def thread_a_row(itemsize, rows):
    """One thread for every row, or for every one of other things."""
    return (blocks(rows, THREADS),), (THREADS,)


def sequences(itemsize, batch):
    """One block for every few rows of a batch of sequences."""
    return (blocks(batch, SEQUENCES),), (THREADS,)


def block_an_image(itemsize, images, pixels):
    """One block for every image; few where each needs memory of its own for a large one."""
    most = BLOCKS if 4 * pixels <= SHARED_FIELD else FEW
    return (min(most, blocks(images, 1)),), (THREADS,)


def tiles(side, itemsize, rows, columns, parts):
    """One block for every square of a matrix and every part of the depth of its product."""
    return (blocks(columns, side), blocks(rows, side), parts), (THREADS,)


def one_block(itemsize, threads=THREADS):
    """A single block."""
    return (1,), (threads,)


def blocks(n, each):
    """Blocks for n things, `each` at a time."""
    return min(BLOCKS, -(-n // each))


def lanes(width):
    """The power of two, at most a warp, that covers a row of this width."""
    return min(32, 1 << max(0, width - 1).bit_length())


def threads_of_row(width):
    """The lanes that cover a row; a whole block where it is long."""
    return lanes(width) if width <= NARROW else THREADS


def tile(rows, columns):
    """The side of a product's tiles: the large ones, which load less, where there are many."""
    return 64 if -(-rows // 64) * -(-columns // 64) >= MANY_TILES else 32


def depth_parts(side, rows, columns, depth):
    """The parts into which the depth of a product by tiles is split; by the shape alone."""
    if depth < 2 * PART_DEPTH:
        return 1
    squares = max(1, blocks(rows, side) * blocks(columns, side))
    return max(1, min(depth // PART_DEPTH, MANY_BLOCKS // squares))


def chunks(rows, units):
    """The parts into which a sum over rows is split; it depends on the shape alone."""
    return max(1, min(CHUNKS, blocks(rows, ROWS_A_THREAD * THREADS // lanes(units))))


KERNELS = {
    "activation_forward": Kernel("activations", pieces),
    "activation_backward": Kernel("activations", pieces),
    "activation_backward_sums": Kernel("activations", columns),
    "prelu_backward_sums": Kernel("activations", columns),
    "column_sums": Kernel("activations", columns),
    "finish_product": Kernel("dense", pieces),
    "affine_transform": Kernel("augmentation", thread_a_row),
    "random_affine": Kernel("augmentation", thread_a_row),
    "elastic_transform": Kernel("augmentation", block_an_image),
    "dense_forward_32": Kernel("dense", partial(tiles, 32)),
    "dense_forward_64": Kernel("dense", partial(tiles, 64)),
    "input_gradient_32": Kernel("dense", partial(tiles, 32)),
    "input_gradient_64": Kernel("dense", partial(tiles, 64)),
    "weight_gradient_32": Kernel("dense", partial(tiles, 32)),
    "weight_gradient_64": Kernel("dense", partial(tiles, 64)),
    "dropout": Kernel("dropout", fours),
    "fill_constant": Kernel("initializers", pieces),
    "fill_uniform": Kernel("initializers", fours),
    "fill_normal": Kernel("initializers", fours),
    "connect_units": Kernel("initializers", thread_a_row),
    "add_l2": Kernel("gradients", pieces),
    "clip_by_value": Kernel("gradients", pieces),
    "scale_by": Kernel("gradients", pieces),
    "softmax_narrow": Kernel("losses", lanes_a_row),
    "softmax_wide": Kernel("losses", block_a_row),
    "log_softmax_narrow": Kernel("losses", lanes_a_row),
    "log_softmax_wide": Kernel("losses", block_a_row),
    "softmax_columns": Kernel("softmax_columns", thread_a_row),
    "cross_entropy_narrow": Kernel("losses", lanes_a_row),
    "cross_entropy_wide": Kernel("losses", block_a_row),
    "sparse_cross_entropy": Kernel("losses", thread_a_row),
    "total": Kernel("losses", one_block),
    "weighted_cross_entropy": Kernel("weighted_cross_entropy", threads_a_row),
    "largest_piece": Kernel("maxout", thread_a_row),
    "winning_piece": Kernel("maxout", thread_a_row),
    "element_loss": Kernel("element_losses", pieces),
    "label_weights": Kernel("nll", thread_a_row),
    "nll": Kernel("nll", thread_a_row),
    "column_moments": Kernel("normalization", columns),
    "finish_moments": Kernel("normalization", thread_a_row),
    "scale_columns": Kernel("normalization", pieces),
    "gradient_sums": Kernel("normalization", columns),
    "columns_gradient": Kernel("normalization", pieces),
    "normalize_rows_narrow": Kernel("normalization", lanes_a_row),
    "normalize_rows_wide": Kernel("normalization", block_a_row),
    "rows_gradient_narrow": Kernel("normalization", lanes_a_row),
    "rows_gradient_wide": Kernel("normalization", block_a_row),
    "rnn_steps": Kernel("recurrent", sequences),
    "lstm_steps": Kernel("recurrent", sequences),
    "gru_steps": Kernel("recurrent", sequences),
    "rnn_steps_back": Kernel("recurrent_back", sequences),
    "lstm_steps_back": Kernel("recurrent_back", sequences),
    "gru_steps_back": Kernel("recurrent_back", sequences),
    "train": Kernel("network", one_block),
    "begin_rows": Kernel("chain", one_block),
    "gather_rows": Kernel("chain", thread_a_row),
    "target_loss": Kernel("chain", thread_a_row),
    "right_decisions": Kernel("chain", thread_a_row),
    "limit_gradients": Kernel("chain", thread_a_row),
    "update_all": Kernel("chain", thread_a_row),
    "add": Kernel("chain", pieces),
    "settle_running": Kernel("chain", thread_a_row),
    "update": Kernel("optimizers", pieces),
    "sparsity": Kernel("statistics", pieces),
    "count_inside": Kernel("statistics", columns),
    "count_outside": Kernel("statistics", columns),
    "histogram": Kernel("statistics", pieces),
    "squares": Kernel("statistics", pieces),
    "root_of_squares": Kernel("statistics", one_block),
    "norm_and_factor": Kernel("statistics", one_block),
    "inner_product": Kernel("second_order", few),
    "add_scaled": Kernel("second_order", pieces),
    "conjugate_sums": Kernel("second_order", few),
    "conjugate_sum": Kernel("second_order", few),
    "pair_sums": Kernel("second_order", few),
    "pair_scales": Kernel("second_order", one_block),
    "recursion_step": Kernel("second_order", few),
    "damped_system": Kernel("cholesky", pieces),
    "cholesky_corner": Kernel("cholesky", one_block),
    "cholesky_panel": Kernel("cholesky", partial(tiles, 32)),
    "cholesky_rest": Kernel("cholesky", partial(tiles, 32)),
    "back_substitution": Kernel("cholesky", one_block),
}


def blocks_of(name, dtype, *work):
    """The number of blocks in the grid of a kernel."""
    grid, _ = KERNELS[name].geometry(dtype.itemsize, *work)
    return math.prod(grid)


def as_numpy(number):
    """How a NumPy scalar is passed on, if as itself."""
    return number


def plan(name, work, arguments, passed=as_numpy):
    """(file, dtype name, grid, block, arguments as the kernel takes them) for work of this size.

    Numbers become passed(NumPy scalar of the parameter's type), None a null pointer; the grid is
    None where there is nothing to do. Raises TypeError for an array of another dtype than that
    declared.
    """
    binding = _binding(name, arguments[_first_real(name)].dtype, passed)
    grid, block = binding.geometry(binding.itemsize, *work)
    if len(arguments) != binding.count:
        raise TypeError(f"{name} takes {binding.count} arguments, got {len(arguments)}")
    bound = list(arguments)
    for k, made in binding.numbers:
        bound[k] = made[bound[k]]
    for k, pointed, parameter in binding.pointers:
        value = bound[k]
        if value is None:
            bound[k] = binding.null
        elif pointed is not None and value.dtype != pointed:
            raise TypeError(f"{name}: {parameter} points to {pointed}, got {value.dtype}")
    return binding.file, binding.dtype, grid if all(grid) else None, block, bound


@cache
def _first_real(name):
    """The place of the first array of floats among the arguments: it decides what REAL is."""
    parameters = signature(KERNELS[name].file, name)
    return next(k for k, (_, kind, points) in enumerate(parameters) if points and kind == "real")


@dataclass(frozen=True)
class Binding:
    """A kernel for one REAL: of its `count` parameters the numbers, as (place, Numbers), and the
    pointers, as (place, dtype or None for any, name); a null pointer.

    The name of a dtype takes NumPy 5 us, a number 0.2 us: they are made once.
    """

    file: str
    dtype: str
    itemsize: int
    geometry: Callable
    count: int
    numbers: tuple
    pointers: tuple
    null: object


@cache
def _binding(name, dtype, passed):
    kernel = KERNELS[name]
    parameters = signature(kernel.file, name)
    if dtype.name not in REALS:
        parameter, _, _ = parameters[_first_real(name)]
        raise TypeError(f"{name}: {parameter} points to real, got {dtype}")
    kinds = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64, "real": dtype.type}
    pointed = {"int": np.dtype(np.int32), "long long": np.dtype(np.int64)}
    pointed |= {"real": dtype, "void": None}
    numbers, pointers = [], []
    for k, (label, kind, points) in enumerate(parameters):
        if points:
            pointers.append((k, pointed[kind], label))
        else:
            numbers.append((k, _numbers(kinds[kind], passed)))
    given = dtype.name, dtype.itemsize, kernel.geometry, len(parameters)
    return Binding(kernel.file, *given, tuple(numbers), tuple(pointers), passed(np.uint64(0)))


class Numbers(dict):
    """Numbers of one type as they are passed on, kept for the next time. Both zeros, equal as keys,
    are +0.
    """

    def __init__(self, kind, passed=as_numpy):
        self.kind, self.passed = kind, passed

    def __missing__(self, value):
        if len(self) == MOST_KEPT:
            self.clear()
        number = self[value] = self.passed(self.kind(value + 0))
        return number


_numbers = cache(Numbers)


@cache
def source(file):
    """The text of a .cu file with its headers in it.

    They are not left to the compiler's search path because CuPy keys its cache by this text: after
    a change in a header it would go on using the old code.
    """
    return _expand(f"{file}.cu", set())


def _expand(file, included):
    """The text of a file with its headers, but for those already `included`."""
    included.add(file)
    lines = [f'#line 1 "{file}"']
    for number, line in enumerate(_text(file).splitlines(), 1):
        header = re.fullmatch(r'#include "(\w+\.cuh)"', line)
        if not header:
            lines.append(line)
        elif header[1] not in included:
            lines += [_expand(header[1], included), f'#line {number + 1} "{file}"']
        else:
            lines.append("")
    return "\n".join(lines)


def _text(file):
    return next(room / file for room in ROOMS if (room / file).exists()).read_text()


def options(dtype):
    """What the compiler is told besides the architecture."""
    return ("-std=c++17", f"-DREAL={REALS[dtype]}")


@cache
def signature(file, name):
    """(name, type, whether it is a pointer) of each parameter of a kernel."""
    head = re.search(rf'extern "C" __global__ void [^;{{]*?\b{name}\(([^)]*)\)', source(file))
    parameters = []
    for parameter in re.sub(r"\bconst\b|__restrict__", "", head[1]).split(","):
        kind, star, label = re.fullmatch(r"\s*([\w ]*?)\s*(\*?)\s*(\w+)\s*", parameter).groups()
        parameters.append((label, kind, bool(star)))
    return tuple(parameters)
