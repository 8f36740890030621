"""The GPU: the only file that speaks to CuPy. Whatever executes the kernels has these names."""

import threading
from functools import cache
from weakref import finalize

import cupy
import numpy as np
from cupy._core._scalar import CScalar

from ...arguments import Unavailable
from ...loss_arguments import out_of_range
from . import table

ndarray, empty = cupy.ndarray, cupy.empty


def name():
    """The card's name."""
    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.get_device_id())["name"].decode()


def asarray(host):
    """A copy on the GPU, C-contiguous."""
    return cupy.asarray(host, order="C")


def to_host(array):
    """A copy as a NumPy array; waits for the work that computes it."""
    return cupy.asnumpy(array)


def synchronize():
    """Wait until all work is done. Raises Unavailable where there is no GPU.

    Raises ValueError for labels, targets or variances out of range in the work since the last call:
    they are on the GPU, so this one check of an argument comes late. The losses concerned are NaN.
    """
    _require_gpu()
    cupy.cuda.runtime.deviceSynchronize()
    if _fault_word.cache_info().currsize and (found := int(_fault_word())):
        _fault_word().fill(0)
        raise out_of_range(found)


def timer():
    """A point in the GPU's time; the difference of two, in seconds, waits for the later."""
    return Instant()


class Instant:
    """A recorded CUDA event."""

    def __init__(self):
        self.event = cupy.cuda.Event()
        self.event.record()

    @property
    def passed(self):
        """Whether the GPU has come to it: where it has not, all that was queued since waits."""
        return self.event.done

    def __sub__(self, earlier):
        self.event.synchronize()
        return cupy.cuda.get_elapsed_time(earlier.event, self.event) * 1e-3  # ms


def matmul(a, b, *, out, precision=None):
    """out = a b by cuBLAS; arrays are C-contiguous, a and b may be transposes of such.

    precision: "tf32" lets cuBLAS round the factors, of float32, to TF32; where the card has no
    tensor cores for it, cuBLAS takes full precision.

    cupy.matmul ends at the same call. On the way it costs several microseconds more, and takes a
    product of one element to kernels of CuPy's own, which must be compiled first.
    """
    kind, compute, one, zero, _ = _gemm_constants(out.dtype, precision)
    # cuBLAS sees every matrix transposed, for it counts along columns: out^T = b^T a^T.
    (rows, columns), (b_form, b_step), (a_form, a_step) = out.shape, _form(b), _form(a)
    cupy.cuda.cublas.gemmEx(
        *(cupy.cuda.get_cublas_handle(), b_form, a_form, columns, rows, a.shape[1]),
        *(one, b.data.ptr, kind, b_step, a.data.ptr, kind, a_step),
        *(zero, out.data.ptr, kind, columns, compute, cupy.cuda.cublas.CUBLAS_GEMM_DEFAULT),
    )


def _form(matrix):
    """(whether cuBLAS is to transpose what it sees of a matrix, the elements between its lines)."""
    rows, columns = matrix.shape
    return (0, columns) if matrix.flags.c_contiguous else (1, rows)


@cache
def _gemm_constants(dtype, precision):
    """Data type, type of computation, addresses of 1 and of 0, and the memory where these lie."""
    cublas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
    kind, compute = {
        ("float32", None): (runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
        ("float32", "tf32"): (runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32),
        ("float64", None): (runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
    }[dtype.name, precision]
    scalars = np.array([1, 0], dtype)
    one = scalars.ctypes.data
    return kind, compute, one, one + dtype.itemsize, scalars


def capture(work):
    """A CUDA graph of the kernels that work() launches; its launch() queues them all at once.

    work() runs twice, the first time to load its kernels. Arrays that it allocates stay the
    graph's own: they come from a pool that no one else takes from.
    """
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.runtime.deviceSynchronize()  # what work() reads has been written
    _this_thread.captures = True
    try:
        with stream, cupy.cuda.using_allocator(pool.malloc):
            work()
            stream.synchronize()
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()
    finally:
        _this_thread.captures = False
    return Graph(graph, pool)


class Graph:
    """A captured graph and the memory of its temporary arrays, which is given back with it."""

    def __init__(self, graph, pool):
        self.launch = graph.launch
        # A pool that is dropped loses its free blocks: they and their arena hold each other.
        finalize(self, pool.free_all_blocks).atexit = False


def capturing():
    """Whether a graph is being captured: cuBLAS through CuPy is forbidden then."""
    return _this_thread.captures


class _ThisThread(threading.local):
    captures = False  # whether it is capturing a graph


_this_thread = _ThisThread()
_first_use = threading.Lock()


def fault():
    """The word on the GPU where kernels leave what they found out of range: see loss_arguments."""
    with _first_use:  # two threads would make two words, and one fault would be lost
        return _fault_word()


def launch(name, work, *arguments):
    """Queue the kernel `name` on the current stream, its grid sized by `work`.

    CuPy makes a CScalar of every number at every launch, half a microsecond each on one host. Those
    it is given are passed on as they are, so they are made once.
    """
    file, dtype, grid, block, arguments = table.plan(name, work, arguments, CScalar)
    if grid:
        _function(file, dtype, name)(grid, block, arguments)


@cache
def _function(file, dtype, name):
    return _module(file, dtype).get_function(name)


@cache
def _module(file, dtype):
    return cupy.RawModule(code=table.source(file), options=table.options(dtype))


@cache
def _fault_word():
    return cupy.zeros((), np.int32)


@cache
def _require_gpu():
    """Raises Unavailable unless a kernel can be compiled and a product computed here.

    CuPy needs parts of the CUDA toolkit for both, which the driver does not bring, and says so only
    when it comes to them.
    """
    if not cupy.cuda.is_available():
        raise Unavailable(
            "backend cupy: no CUDA device was found; it needs an NVIDIA GPU and its driver"
        )
    one = asarray(np.ones((1, 1), np.float32))
    for task, attempt in (
        ("compile a kernel", lambda: launch("column_sums", one.shape, one, one, *one.shape)),
        ("call cuBLAS", lambda: matmul(one, one, out=empty((1, 1), np.float32))),
    ):
        try:
            attempt()
        except Exception as error:
            cuda = cupy.cuda.runtime.runtimeGetVersion() // 1000  # that CuPy was built for
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Unavailable(
                f"backend cupy: CuPy cannot {task}: {reason}; what it needs of the CUDA toolkit is "
                f"installed by python -m pip install -e '.[gpu{cuda}]'"
            ) from error
