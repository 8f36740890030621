"""The machine code of the kernels: products do not wait, sums read ahead, no local memory is used.

Each check is seen to fail on a text in which what it holds is undone.
"""

import pytest

pytest.importorskip("cupy", reason="CuPy and its CUDA compiler are not installed (--no-gpu)")

import sass

from kernels.cupy_gpu.runtime import resources, table

if not sass.nvdisasm():
    pytest.skip("nvdisasm is missing: pip install nvidia-cuda-nvdisasm", allow_module_level=True)

over_machines = pytest.mark.parametrize("architecture", resources.ARCHITECTURES)
over_dtypes = pytest.mark.parametrize("dtype", table.REALS)


def product_complaint(code):
    """What is wrong with a product by tiles, or an empty string."""
    barrier, before, after = sass.multiplication(code)
    if waits := sass.waits(code, barrier, before):
        return f"waits for the next panel: {', '.join(sorted(waits))}"
    if not sass.count(code, before, "LDG") or sass.count(code, after, "LDG"):
        return "the next panel is not fetched before this one is multiplied"
    multiplied, read = sass.count(code, after, "FFMA", "DFMA"), sass.count(code, after, "LDS")
    if multiplied < 4 * read:
        return f"{multiplied} multiplications for {read} reads of shared memory"
    return "local memory" if sass.count(code, range(len(code)), "LDL", "STL") else ""


def loads_before_a_store(code):
    """The most that are ever in flight at once: loads with no store or barrier between them."""
    most = loads = 0
    for one in code:
        loads = 0 if one.name in ("STG", "BAR") else loads + (one.name == "LDG")
        most = max(most, loads)
    return most


@over_machines
@over_dtypes
def test_products_do_not_wait_for_the_next_panel(dtype, architecture):
    kernels = sass.of_file("dense", dtype, architecture)
    for name in resources.PRODUCTS:
        assert not product_complaint(kernels[name]), f"{name}: {product_complaint(kernels[name])}"


@over_machines
@over_dtypes
def test_column_sums_read_ahead(dtype, architecture):
    """Four rows, of one array or of two."""
    kernels = sass.of_file("activations", dtype, architecture)
    assert loads_before_a_store(kernels["column_sums"]) >= 4
    assert loads_before_a_store(kernels["activation_backward_sums"]) >= 8
    assert loads_before_a_store(kernels["prelu_backward_sums"]) >= 8


def changed(file, old, new):
    text = table.source(file)
    assert old in text, f"{file} does not contain {old!r}: undo it anew"
    return text.replace(old, new)


ONE_BY_ONE = """
template <int N> __device__ Piece<N> one_by_one(const volatile real* from) {
  Piece<N> piece;
  for (int k = 0; k < N; ++k) piece.at[k] = from[k];
  return piece;
}
constexpr int SIDE"""
UNDONE = {
    "a load that is looked at": (
        "travelling[k] = load<WIDTH>(from);",
        "travelling[k] = load<WIDTH>(from), travelling[k].at[0] += inside(k) > 0 ? 0 : 1;",
        "waits for the next panel",
    ),
    "no prefetch": (
        "        left.fetch();\n        right.fetch();\n#pragma",
        "#pragma",
        "the next panel is not fetched",
    ),
    "narrow reads": ("y = load<SIDE>(&p", "y = one_by_one<SIDE>(&p", "reads of shared memory"),
    "an array by index": ("sums[i][j] +=", "sums[i][(j + depth) % SIDE] +=", "local memory"),
}


@pytest.mark.parametrize(("old", "new", "complaint"), UNDONE.values(), ids=UNDONE)
def test_a_product_undone_is_seen(old, new, complaint):
    text = changed("dense", old, new).replace("constexpr int SIDE", ONE_BY_ONE, 1)
    code = sass.of_text(text, "float32", 90)["weight_gradient_64"]
    assert complaint in product_complaint(code)


def test_sums_undone_are_seen():
    code = sass.of_text(changed("activations", "AHEAD = 4", "AHEAD = 1"), "float32", 90)
    assert loads_before_a_store(code["activation_backward_sums"]) < 8
    assert loads_before_a_store(code["prelu_backward_sums"]) < 8
