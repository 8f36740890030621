"""python -m benchmarks COMMAND

run, report, replay: time the grid through asv, print what was found, check one cell again; check:
hold kernels of yours against the reference; compare: two commits; study: train the grid of
optimizers; peers: compare with other libraries; compile, ways: time the compiler, and the ways to
compute a product; card, record, pack, resources: test and record a GPU, or record it alone, pack
what a machine without network needs for that, what the CUDA kernels need of one.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import kernels

from .running import isa

EXPORTS = {  # the options of report
    "html": "a page to sort and filter, which needs no network",
    "json": "every figure as a number, as JSON",
    "csv": "the same as a table, a row for every cell and column",
    "markdown": "the report as Markdown",
}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="example: python -m benchmarks run --only adam mnist",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, what, example):
        called = f"example: python -m benchmarks {name} {example}".rstrip()
        return commands.add_parser(name, help=what, description=what, epilog=called)

    run = command("run", "time the grid, print each table when it is done", "--only adam mnist")
    run.add_argument("--all", action="store_true", help="every layer, variant and dtype")
    run.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="families, functions, variants, workloads or layers",
    )
    check = command("check", "hold kernels of yours against the reference", "mine.py --only adam")
    check.add_argument("file", type=_module, metavar="FILE", help="a Python file with functions")
    check.add_argument("--all", action="store_true", help="the workloads' layers as well")
    check.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="families, functions or variants"
    )
    check.add_argument(
        "--limit", type=float, metavar="SECONDS", help="for a function in a dtype: else it is slow"
    )
    replay = command("replay", "check one cell again", "adam digits-64x128 float32 numba")
    replay.add_argument("function", metavar="FUNCTION")
    replay.add_argument("names", nargs="+", metavar="NAME", help="variant, layer, batch, dtype...")
    replay.add_argument("--seed", type=int, metavar="N", help="of a judged call's inputs")
    for each in (run, replay):
        each.add_argument("--backend", type=_module, metavar="FILE", help="your backend's file")
    report = command("report", "print the results of the last run", "--html report.html")
    report.add_argument("--plot", type=Path, metavar="DIR", help="draw time against batch here")
    for form, what in EXPORTS.items():
        report.add_argument(f"--{form}", metavar="FILE", help=f"write {what}; - prints it")
    report.add_argument(
        "--results",
        nargs="+",
        default=[],
        type=Path,
        metavar="DIR",
        help="other checkouts, or folders like results/: their machines stand beside this one",
    )
    record = command("record", "check and time a GPU, keep it under results/", "--machine my-card")
    for each in (run, record):
        each.add_argument("--machine", metavar="NAME", help="the name of this machine")
    report.add_argument("--machine", metavar="NAME", help="this machine, or one under results/")
    card = command("card", "test a GPU, look for races in it, then record it", "--minutes 9")
    card.add_argument("--minutes", type=float, default=9, metavar="N", help="in all")
    command("pack", "write a file with all that a GPU without network needs", "")
    peers = command("peers", "time our kernels beside PyTorch, oneDNN and JAX", "--only adam")
    peers.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="families, functions, variants, workloads or layers",
    )
    peers.add_argument("--threads", nargs="+", type=int, default=None, metavar="N")
    peers.add_argument("--rounds", type=int, default=9, metavar="N", help="of every cell")
    peers.add_argument("--output", type=Path, metavar="FILE", help="the rounds, as JSON")
    study = command("study", "train the grid of optimizers: which is first", "--only adam digits")
    study.add_argument("--all", action="store_true", help="every setting: a day on two cores")
    study.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="methods, rules, data, lr=0.01, batch=32, 64-32, elu, dropout, seed=0, ...",
    )
    study.add_argument("--backend", default="numba", metavar="NAME", help="whose networks")
    study.add_argument("--workers", type=int, metavar="N", help="processes, one for each core")
    study.add_argument(
        "--dask", metavar="ADDRESS", help="the workers of this scheduler in the processes' place"
    )
    study.add_argument("--store", type=Path, metavar="FILE", help="where finished runs are kept")
    study.add_argument("--html", metavar="FILE", help="write the study as a page")
    study.add_argument(
        "--recipe",
        nargs="*",
        metavar="NAME",
        help="train the recipe for digits in the grid's place, or its variants of these names",
    )
    study.add_argument(
        "--peers",
        action="store_true",
        help="the best settings through scikit-learn and PyTorch as well",
    )
    study.add_argument("--show", action="store_true", help="run nothing, show what is kept")
    compiling = command("compile", "time Numba's compiler, family by family", "--only losses")
    compiling.add_argument("--only", nargs="+", default=[], metavar="FAMILY")
    compare = command(
        "compare",
        "what a commit makes slower: exit status 0 nothing, 1 something, 2 wrong, 3 no verdict. "
        "Compares the core grid's cells on the CPU whose code differs, and some of equal code as "
        "controls: on an idle machine half a minute, 2 s a cell, and what it has to compile",
        "main HEAD --only adam --budget 10",
    )
    compare.add_argument("base", metavar="BASE", nargs="?", help="a commit")
    compare.add_argument("head", metavar="HEAD", nargs="?", help="a later one")
    compare.add_argument("--only", nargs="+", default=[], metavar="NAME", help="as for run")
    compare.add_argument(
        "--budget",
        type=float,
        default=float("inf"),
        metavar="MINUTES",
        help="in all: it judges as many cells as there is time for, suspicious ones first",
    )
    compare.add_argument(
        "--self-test",
        type=int,
        nargs="?",
        const=5,
        metavar="N",
        help="BASE, or HEAD, against itself, N times, and slowed down: what is found of that",
    )
    compare.add_argument(
        "--published", type=Path, metavar="FILE", help="judge a self-test's blocks again"
    )
    compare.add_argument("--output", metavar="DIR", help="keep the blocks here, not in .asv")
    compare.add_argument("--json", type=Path, metavar="FILE", help="all verdicts, as JSON")
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="for a pull request")
    ways = command("ways", "the way forward products take beside the best one", "--isa avx2")
    for each in (run, peers, ways):
        each.add_argument(
            "--isa",
            choices=isa.CHOICES,
            help="vector instructions: all of this processor, or AVX2 for everything",
        )
    command("resources", "registers and occupancy of the CUDA kernels, by NVRTC", "")
    args = parser.parse_args(arguments)

    if args.command in ("card", "pack", "compare") and kernels.INSTALLED:
        parser.error(f"{args.command} needs a checkout of fusebench: its tests, its commit")
    if args.command in ("run", "replay"):
        # Before the suites are imported: they read these.
        if args.command == "replay" or args.all:
            os.environ["FUSEBENCH_ALL"] = "1"
        if args.backend:
            os.environ["FUSEBENCH_BACKEND"] = str(args.backend)
    try:
        code = isa.start(getattr(args, "isa", None), arguments or sys.argv[1:])
        if code is not None:
            return code
        if args.command == "peers":
            from . import peers

            peers.compare(args.only, args.threads, args.rounds, args.output or peers.OUTPUT)
            return 0
        if args.command == "study":
            from . import study as room

            if args.recipe is not None:
                from .study import recipe

                recipe.show(args.recipe, args.backend)
                return 0
            given = args.all, args.only, args.backend, args.workers, args.store, args.html
            return (
                1 if room.study(*given, run=not args.show, beside=args.peers, dask=args.dask) else 0
            )
        if args.command == "replay":
            from .running import journal, replay

            os.environ.pop(journal.VARIABLE, None)  # it belongs to no run
            return replay.replay(args.function, *args.names, seed=args.seed)
        if args.command == "compare":
            from .comparing import command as comparing

            return comparing.compare(args)
        if args.command == "check":
            from .checking import check

            limit = check.LIMIT if args.limit is None else args.limit
            return 1 if check.show(args.file, args.only, args.all, limit) else 0
        if args.command == "compile":
            from .running import compiling

            compiling.show(args.only)
            return 0
        if args.command == "ways":
            from .running import ways

            ways.show()
            return 0
        if args.command == "record":
            from .running import record

            try:
                record.record(args.machine)
            except record.Lost as error:
                print(f"error: {error}", file=sys.stderr)
                return record.LOST
            return 0
        if args.command == "card":
            from .running import card

            return 1 if card.run(args.minutes) else 0
        if args.command == "pack":
            from .running import pack

            print(pack.write())
            return 0
        if args.command == "resources":
            from kernels.cupy_gpu.runtime import resources

            resources.show()
            return 0
        from .reports import report, session_table

        if args.command == "run":
            from .running import runner

            def show(family):
                if text := report.of_family(family, args.machine):
                    print(f"\n{text}\n", flush=True)

            failed = runner.run(args.only, args.machine, show)
            print(report.without_tables(args.machine))
            return 1 if failed else 0
        wanted = {form: getattr(args, form) for form in EXPORTS if getattr(args, form)}
        if wanted:
            from .reports import columns, exports

            exports.write(wanted, columns.view(args.machine, args.results))
        elif args.machine and (text := session_table.recorded(args.machine)):
            print(text)
        else:
            print(report.render(args.machine, args.results))
        if args.plot:
            from .reports import plots

            plots.draw(args.plot, args.machine)
    except KeyboardInterrupt:
        again = args.command if args.command in ("study", "compare") else "report"
        print(
            f"\nstopped; what was finished is kept: python -m benchmarks {again}", file=sys.stderr
        )
        return 130
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is not installed: python3 run.py test installs it",
            file=sys.stderr,
        )
        return 2
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _module(text):
    path = Path(text).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a Python file")
    if path.stem in kernels.BACKENDS:
        raise argparse.ArgumentTypeError(
            f"{path.name} would be reported under our {path.stem}'s name"
        )
    return path


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `| head` ends it without a traceback
    sys.exit(main())
