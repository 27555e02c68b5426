"""The cluster of a run: its replicas on one clock, from the first arrival to the last row."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import polars as pl

from servesim.cluster.arrivals import Arrivals, Group
from servesim.cluster.build import Plugins, Pool
from servesim.cluster.closed_loop import OPEN, Loop
from servesim.cluster.closing import close
from servesim.cluster.front_end import FrontEnd
from servesim.cluster.late import LateRequests, TooLate
from servesim.cluster.plugin_errors import probe
from servesim.cluster.records import FLUSH_BYTES, ClusterAccount, Recorder, ReplicaAccount
from servesim.cluster.replica import Replica
from servesim.cluster.replicas import new_replica
from servesim.cluster.sampler import Sampler
from servesim.cluster.system import System
from servesim.cluster.views import LiveReplicaView
from servesim.policies.api import PolicyContext
from servesim.scenario import RunSpec


class Cluster:
    """Replicas, grouped by the model that they serve, and what drives them.

    Parameters
    ----------
    pools
        Resolved pools, in the scenario's order; replicas are numbered through them.
    plugins
        Router and scheduler; each model's group gets a router of its own.
    recorder
        Where rows go.
    seed
        The scenario's.
    """

    def __init__(self, pools: Sequence[Pool], plugins: Plugins, recorder: Recorder, *, seed: int) -> None:
        self.recorder = recorder
        self.system = System(recorder)
        self.replicas: list[Replica] = []
        self.front_ends: list[FrontEnd] = []
        self.groups: list[Group] = []
        self._interrupted, self._seed = False, seed
        plugins.scheduler.reset(PolicyContext(seed=seed, name="scheduler"))
        members: dict[str, list[Replica]] = {pool.spec.model: [] for pool in pools}
        entrances: dict[str, list[Replica | FrontEnd]] = {pool.spec.model: [] for pool in pools}
        loads = {pool.spec.model: array("q") for pool in pools}
        for pool in pools:
            probe(pool.latency)
            for _ in range(pool.spec.replicas):
                replica = self._replica(pool, plugins, loads[pool.spec.model])
                members[pool.spec.model].append(replica)
                entrances[pool.spec.model].append(self._entrance(pool, replica))
                self.replicas.append(replica)
        for served, replicas in members.items():
            router = deepcopy(plugins.router)
            router.reset(PolicyContext(seed=seed, name=f"router/{served}"))
            self.groups.append(Group(served, replicas, loads[served], router, entrances=entrances[served]))

    def _replica(self, pool: Pool, plugins: Plugins, load: array[int]) -> Replica:
        """Return a new replica of *pool*, the next of the cluster and the last in the *load* of its group."""
        load.append(0)
        account = ReplicaAccount(
            replica=len(self.replicas), pool=pool.spec.name, kv_blocks=pool.engine.kv_blocks
        )
        return new_replica(
            pool.engine,
            seed=self._seed,
            latency=pool.latency,
            scheduler=plugins.scheduler,
            system=self.system,
            account=account,
            load=load,
            position=len(load) - 1,
        )

    def _entrance(self, pool: Pool, replica: Replica) -> Replica | FrontEnd:
        """Return what takes the requests of *replica*: itself, unless the pool's front end takes time."""
        if not pool.front_end.takes_time:
            return replica
        front_end = FrontEnd(pool.front_end, replica, self.system)
        self.front_ends.append(front_end)
        return front_end

    def run(
        self,
        frames: Iterator[pl.DataFrame],
        run: RunSpec,
        *,
        loop: Loop = OPEN,
        on_tick: Callable[[int, float], None] | None = None,
        stop_when: Sequence[TooLate] = (),
    ) -> ClusterAccount:
        """Simulate the arrival and service of all requests in *frames* and return the accounts.

        Parameters
        ----------
        frames
            Workload frames in order of arrival.
        run
            Horizon, drain and sampling.
        loop
            Whether arrivals depend on what happens in the run.
        on_tick
            Called now and then with the number of requests arrived and the simulated time.
        stop_when
            Rules that end the run early; looked at at sampling times.

        Raises
        ------
        StoppedEarly
            If one of *stop_when* held.
        """
        system, clock = self.system, self.system.clock
        late = LateRequests(stop_when) if stop_when else None
        arrivals = loop.arrivals(
            frames,
            self.groups,
            system=system,
            recorder=self.recorder,
            horizon_s=run.horizon_s,
            late=late,
        )
        views = [LiveReplicaView(replica) for replica in self.replicas]

        def tick(now: float) -> None:
            if len(system.outcomes) > FLUSH_BYTES:
                arrivals.hand_over()
            self.recorder.tick()
            if on_tick is not None:
                on_tick(arrivals.arrived, now)
            if late is not None:
                late.check(now, arrivals.arrived)

        sampler = Sampler(views, system, interval_s=run.sample_interval_s, on_tick=tick)
        sampler.active = lambda: (
            not arrivals.finished
            or any(not replica.is_idle() for replica in self.replicas)
            or any(not front_end.is_idle() for front_end in self.front_ends)
        )
        if not run.drain:
            if run.horizon_s is None:
                arrivals.on_last = clock.stop
            else:
                clock.stop_at(run.horizon_s)
        arrivals.start()
        sampler.start()
        collecting = gc.isenabled()
        gc.disable()  # a run makes no reference cycles, and its many live objects would make each collection slow
        try:
            stopped = clock.run_until_stopped()
        finally:
            if collecting:
                gc.enable()
        end_s = clock.now if stopped else self._last_s(arrivals)
        sampler.flush()
        return self._close(end_s, arrivals, interrupted=self._interrupted and stopped)

    def interrupt(self) -> None:
        """End the run at the present simulated time, keeping what has happened. Safe in a signal handler."""
        self._interrupted = True
        self.system.clock.stop()

    def _last_s(self, arrivals: Arrivals) -> float:
        """Return when a run ends that was not stopped: with its last arrival or the last request to leave."""
        idle_s = [replica.idle_since_s for replica in self.replicas]
        idle_s += [front_end.idle_since_s() for front_end in self.front_ends]
        return max(arrivals.last_s, *idle_s)

    def _close(self, end_s: float, arrivals: Arrivals, *, interrupted: bool) -> ClusterAccount:
        arrivals.hand_over()
        for front_end in self.front_ends:
            front_end.close(end_s)
        for replica in self.replicas:
            close(replica, end_s)
        return ClusterAccount(
            end_s=end_s,
            arrived=arrivals.arrived,
            system_area_s=sum(
                account.front_end_area_s + account.queue_area_s + account.batch_area_s
                for account in [replica.account for replica in self.replicas]
            ),
            interrupted=interrupted,
            replicas=[replica.account for replica in self.replicas],
            follow_ups_not_sent=arrivals.follow_ups_not_sent,
        )
