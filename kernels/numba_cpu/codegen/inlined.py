"""Functions that only compiled functions call, whose code is made within that of their callers.

Numba would make machine code of each by itself as well, which nothing runs: a quarter of all the
time that it takes to compile.
"""

from copy import copy

from numba import extending
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering, NativeParforLowering


class _Library(JITCodeLibrary):
    """LLVM IR, optimised and checked as Numba does, to be linked into the libraries of callers."""

    def _optimize_functions(self, ll_module):
        """As Numba does, but for what is only declared, where there is nothing to optimise."""
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager()
                passes.run(function, builder)

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _Part(_Library):
    """What Numba makes in libraries of its own to lower a function: optimised with that alone."""

    def _optimize_final_module(self):
        pass


@register_pass(mutates_CFG=False, analysis_only=True)
class _Known(LoweringPass):
    """Tells callers what to link. They know it by what stands in for the address of its code."""

    _name = "inlined_function_known"

    def __init__(self):
        LoweringPass.__init__(self)

    def run_pass(self, state):
        lowered = state["cr"]._replace(cfunc={}.popitem)  # like no other; Python gets an error
        state.targetctx.insert_user_function(lowered.cfunc, lowered.fndesc, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = lowered
        return True


class Inlined(CompilerBase):
    """Compiles to IR and no further."""

    def define_pipelines(self):
        state = self.state
        state.targetctx._internal_codegen = parts = copy(state.targetctx.codegen())
        parts._library_class = _Part
        state.library = _Library(parts, state.func_id.func_qualname)
        flags = state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        passes = DefaultPassBuilder.define_nopython_pipeline(state)
        parallel = state.flags.auto_parallel.enabled
        passes.add_pass_after(_Known, NativeParforLowering if parallel else NativeLowering)
        passes.finalize()
        return [passes]


INLINED = {"pipeline_class": Inlined}  # of the options of Numba's decorators


def register_jitable(function=None, **options):
    """Numba's, of the same options; what is compiled is Inlined."""
    decorate = extending.register_jitable(**INLINED | options)
    return decorate if function is None else decorate(function)
