"""The optimizer study: which method, rate and batch reaches the target first.

`python -m benchmarks study` trains the grid (grid.py, data.py; a run: training.py, observer.py,
signals.py) in processes (pool.py) or on a cluster (cluster.py), keeps every finished run
(store.py), and says what the runs say (figures.py, findings.py, report.py, page.py; peers.py,
libraries.py).
"""


def study(
    everything=False,
    only=(),
    backend="numba",
    workers=None,
    path=None,
    html=None,
    run=True,
    beside=False,
    dask=None,
):
    """Runs what is not kept yet, prints the tables, writes the page; returns what has failed.

    everything, only: see grid.settings; path: of the store; beside: whether each method's best
    setting is run through other libraries as well, after all others; dask: the address of the
    scheduler of a cluster. Raises ValueError where there is no such setting, RuntimeError where
    another study is at work.
    """
    from . import figures, grid, page, peers, pool, report
    from .store import PATH, Store

    settings, store = grid.settings(everything, only), Store(path or PATH)
    failed = pool.run(settings, store, backend, workers, dask=dask) if run else []
    runs = figures.runs(store.records(), settings if run or only else None)
    store.close()
    print(report.render(runs))
    if beside:
        for table in peers.tables(runs):
            print(f"\n{table}", flush=True)
    if html:
        with open(html, "w", encoding="utf-8") as file:
            file.write(page.render(runs))
    for setting, why in failed:
        print(f"failed: {setting}: {why}")
    return failed
