"""The study on a Dask cluster: its workers train, the client keeps what they send, at once.

    .venv/bin/dask scheduler                                            # says its ADDRESS
    NUMBA_NUM_THREADS=1 .venv/bin/dask worker ADDRESS --nworkers -1     # on each machine
    .venv/bin/python -m benchmarks study --dask ADDRESS

A worker has to have the same code: elsewhere a run fails, and says so. The runs of a worker that
dies are given to others; a run under which more workers die than the scheduler allows
(`distributed.scheduler.allowed-failures`, 3 unless it is told otherwise) fails too. Source:
distributed.dask.org, Resilience.
"""

import contextlib
import functools

from ..running import journal, machine
from ..suites import workloads

WAIT = 30  # seconds for the scheduler, and then for the first of its workers
HOW = ".venv/bin/python -m pip install -e .[dask]"


class Lost(RuntimeError):
    """There is no cluster, or no longer one."""


@contextlib.contextmanager
def connected(address, store):
    """The Cluster there. Raises Lost where there is none, or no Dask here."""
    try:
        from distributed import Client
    except ImportError:
        raise Lost(f"--dask: Dask is not installed: {HOW}") from None
    try:
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Lost(f"--dask: no scheduler at {address}: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError:
            raise Lost(f"--dask: the scheduler at {address} has no workers") from None
        yield Cluster(client, store)


class Cluster:
    """Has the interface of pool.Processes."""

    def __init__(self, client, store):
        self._client, self._store = client, store
        self._executor = client.get_executor(pure=False)

    @property
    def most(self):
        """One run a thread of the workers: when one dies, no more than that run is under way."""
        return max(1, sum(self._threads().values()))

    def _threads(self):
        """{address of a worker: its threads}."""
        try:
            return self._client.nthreads()
        except OSError as error:
            raise Lost(f"the cluster is lost ({error}); what is finished is kept") from None

    def prepare(self, task, settings, backend):
        """On one worker of each machine: they share what is compiled."""
        from distributed.comm import get_address_host

        chosen = {get_address_host(address): address for address in self._threads()}
        begun = [
            self._executor.submit(
                *(_same, _code(), task, settings, backend),
                workers=[address],
                allow_other_workers=True,
            )
            for address in chosen.values()
        ]
        for future in begun:
            future.result()

    def submit(self, task, setting, backend):
        return self._executor.submit(_away, _code(), task, setting, backend)

    def finished(self, setting, result):
        self._store.add(str(setting), *result)


_code = functools.cache(journal.code)


def _same(code, task, *arguments):
    """What the task gives where the code is the client's."""
    if _code() != code:
        name = machine.hardware()["machine"]
        raise RuntimeError(f"the code of {name} is another one: {workloads.ROOT}")
    return task(*arguments)


def _away(code, task, setting, backend):
    return _same(code, task, setting, backend), machine.hardware()
