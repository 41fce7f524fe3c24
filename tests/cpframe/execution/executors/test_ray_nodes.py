"""A Ray cluster of several nodes, all on this machine: one is removed, and its work is done by another."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.spec.model import Component
from cpframe.store import read_stage, read_state
from cpframe.testing import small_spec
from cpframe.testing.training import EXACT, make_job, make_stage
from cpframe.training.job import Event, Job, StageDone

EPOCHS = 60

# A deficit that is slow until the file `gate` exists.
GATED = """
import time
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Gated:
    gate: Path

    def __call__(self, batch, rng):
        if not self.gate.exists():
            time.sleep(0.1)
        return batch._replace(inputs=1 - batch.inputs)
"""


def jobs(folder: Path, gate: Path) -> list[Job]:
    from gated import Gated  # type: ignore[import-not-found]  # written by the test

    folder.mkdir()
    spec = small_spec(optimizer={"use": "adam"}, deficits={"noise": {"use": "noise"}})
    first = make_job(make_stage("0", EPOCHS, "noise"), spec, folder, keep_state=True)
    gated = Component("gated/gated", "0", Gated(gate))
    first = replace(first, variant=replace(first.variant, deficits={"noise": gated}))
    return [first, replace(first, stage=replace(first.stage, id="1", seed=1), folder=folder / "1")]


def wait_for_both(executor: Executor) -> dict[str, str]:
    events: list[Event] = []
    while sum(isinstance(event, StageDone) for event in events) < 2:
        events += executor.wait()
    return {event.stage: event.failure for event in events if isinstance(event, StageDone)}


def state(folder: Path) -> bytes:
    record = read_stage(folder)
    assert record is not None
    assert record.history.epoch[-1] == EPOCHS
    return read_state(folder, record)


@pytest.mark.long
@pytest.mark.needs_extra("ray")
def test_the_work_of_a_removed_node_is_done_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "ray" in sys.modules:
        pytest.skip("Ray has already been used in this process: run this file on its own")
    import ray
    from ray.cluster_utils import Cluster

    from cpframe.execution.executors import ray_actors

    (tmp_path / "gated.py").write_text(GATED)
    gate = tmp_path / "gate"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
        pool = ray_actors.start_ray_actors("ray", 2, 2, EXACT, tmp_path)
        for job in jobs(tmp_path / "nodes", gate):
            pool.submit(job)
        pool.wait()
        monkeypatch.setattr(ray_actors, "_START_SECONDS", 2.0)
        cluster.remove_node(node, allow_graceful=False)
        gate.touch()
        assert wait_for_both(pool) == {"0": "", "1": ""}
        # Ray may or may not have started a new worker by then; test_executors covers the pool's part.
        pool.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
    inline = Inline(EXACT)
    for job in jobs(tmp_path / "inline", gate):
        inline.submit(job)
        while not any(isinstance(event, StageDone) for event in inline.wait()):
            pass
    for stage in ("0", "1"):
        assert state(tmp_path / "nodes" / stage) == state(tmp_path / "inline" / stage)
