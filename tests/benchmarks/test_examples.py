"""The worked examples: they pass, and a planted mistake is found."""

import shutil
import sys
import types
import zlib
from pathlib import Path

import pytest
from conftest import backend_or_skip

import kernels
from benchmarks.checking import check
from benchmarks.suites.workloads import ROOT

EXAMPLES = ROOT / "examples"
BARRIER = "  __syncthreads();  // all have read it\n"


def judged(folder, name, *rows, old="", new=""):
    """The words on rows of an example, in which `old` was replaced."""
    for file in EXAMPLES.glob(f"{Path(name).stem}.*"):
        shutil.copy(file, folder)
    text = (EXAMPLES / name).read_text()
    assert text.count(old) == 1 or not old
    (folder / name).write_text(text.replace(old, new) if old else text)
    module = kernels.load(str((folder / name).with_suffix(".py")))
    return [check.judged(module, *row).word for row in rows]


def test_numpy(tmp_path):
    rows = [(name, "float32") for name in ("softmax", "softmax[across rows]", "adam")]
    assert judged(tmp_path, "numpy_kernels.py", *rows) == ["passes"] * 3
    planted = {"old": "variance / (1 - beta2**step)", "new": "variance"}
    assert judged(tmp_path, "numpy_kernels.py", *rows, **planted) == ["passes", "passes", "WRONG"]
    planted = {"old": "logits, logits.max(axis=axis, keepdims=True)", "new": "logits, 0"}
    assert judged(tmp_path, "numpy_kernels.py", rows[0], **planted) == ["WRONG"]


def test_torch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install -e .[peers])")
    rows = [("softmax", "float64"), ("dense_forward[relu]", "float32")]
    rows.append(("dense_forward[gelu]", "float32"))
    words = judged(tmp_path, "torch_kernels.py", *rows)
    assert words == ["passes", "passes", check.MISSING]
    planted = {"old": "torch.relu", "new": "torch.abs"}
    assert judged(tmp_path, "torch_kernels.py", rows[1], **planted) == ["WRONG"]


@pytest.mark.gpu
def test_cuda(tmp_path):
    backend_or_skip("cupy")
    rows = [("softmax", "float32"), ("softmax", "float64")]
    assert judged(tmp_path, "cuda_kernels.py", *rows) == ["passes"] * 2
    planted = {"old": "/ parts[0]", "new": "/ (parts[0] + 1)"}
    assert judged(tmp_path, "cuda_kernels.cu", rows[0], **planted) == ["WRONG"]


@pytest.mark.slow
def test_cuda_on_the_simulated_gpu(tmp_path, monkeypatch):
    """Where a missing barrier shows as well."""
    monkeypatch.setitem(sys.modules, "cupy", simulated_cupy(monkeypatch))
    rows = [("softmax", "float32"), ("softmax", "float64")]
    assert judged(tmp_path, "cuda_kernels.py", *rows) == ["passes"] * 2
    assert judged(tmp_path, "cuda_kernels.cu", rows[0], old=BARRIER) == ["WRONG"]


def simulated_cupy(monkeypatch):
    """What the example uses of CuPy, on the CPU."""
    twin = backend_or_skip("simulated-forward").__name__
    device, table = sys.modules[f"{twin}.runtime"].device, sys.modules[f"{twin}.runtime.table"]

    class RawModule:
        def __init__(self, code, options):
            self.code, self.options = code, options

        def get_function(self, name):
            file, real = f"example-{zlib.crc32(self.code.encode())}", self.options[0][7:]

            def launch(grid, block, arguments):
                with monkeypatch.context() as patch:
                    patch.setattr(table, "source", lambda _: self.code)
                    patch.setattr(table, "KERNELS", {name: types.SimpleNamespace(file=file)})
                    patch.setattr(table, "options", lambda _: ("-std=c++17", *self.options))
                    patch.setattr(table, "plan", lambda *_: (file, real, grid, block, arguments))
                    device.launch(name, None, *arguments)

            return launch

    runtime = types.SimpleNamespace(deviceSynchronize=device.synchronize)
    return types.SimpleNamespace(
        RawModule=RawModule,
        asarray=device.asarray,
        asnumpy=device.to_host,
        empty_like=lambda array: device.empty(array.shape, array.dtype),
        cuda=types.SimpleNamespace(runtime=runtime),
    )


@pytest.mark.parametrize("real", ["float", "double"])
def test_cuda_compiles(real):
    pytest.importorskip("cupy", reason="CuPy and its CUDA compiler are not installed (--no-gpu)")
    from cupy.cuda import nvrtc

    text = (EXAMPLES / "cuda_kernels.cu").read_text()
    program = nvrtc.createProgram(text, "cuda_kernels.cu", (), ())
    nvrtc.compileProgram(program, (f"-DREAL={real}", "-arch=sm_80"))
    assert ".entry softmax_rows" in nvrtc.getPTX(program).decode()
