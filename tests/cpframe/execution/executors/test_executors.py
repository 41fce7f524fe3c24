"""Each executor by itself: which worker gets what, when workers are replaced, what is refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import pytest

from cpframe.errors import ExecutorError, SpecError
from cpframe.execution.executors import Executor
from cpframe.execution.executors import selection as choosing
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.processes import processes
from cpframe.execution.executors.selection import beside_observers, check, start
from cpframe.execution.executors.worker import WorkerMessage
from cpframe.numerics import Numerics, assign_devices, devices
from cpframe.plan.stages import Stage
from cpframe.plugins.discovery import discover
from cpframe.spec.model import Variant
from cpframe.spec.reader import read_spec
from cpframe.store import StoreError, read_stage
from cpframe.training.job import EpochDone, Event, Job, StageDone

EXACT = Numerics("cpu", "exact", "float32")
SPEC = """
title = "Small"
seeds = [0]
[dataset]
use = "digits"
train = 60
[architecture]
use = "mlp"
sizes = [16]
[optimizer]
use = "sgd"
[training]
batch_size = 20
[deficits.noise]
use = "noise"
[[protocols]]
use = "removal"
until = [0, 2]
recovery = 5
"""


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    path = tmp_path_factory.mktemp("spec") / "small.toml"
    path.write_text(SPEC)
    return read_spec(path, discover()).variants[0]


def job_of(variant: Variant, folder: Path, name: str, epochs: int = 2) -> Job:
    stage = Stage(name, None, 0, 0, "clean", 0, epochs, (0.01,) * epochs, restart_state=False)
    return Job(stage, variant, (), EXACT, folder, folder / name, None, keep_state=False)


def ends(executor: Executor, count: int) -> dict[str, str]:
    """Wait until so many stages are done; why each failed."""
    done: dict[str, str] = {}
    while len(done) < count:
        done |= {event.stage: event.failure for event in executor.wait() if isinstance(event, StageDone)}
    return done


# --- in this process ------------------------------------------------------------------------------------------------


def test_inline_trains_an_epoch_for_every_wait(variant: Variant, tmp_path: Path) -> None:
    executor = Inline(EXACT)
    executor.submit(job_of(variant, tmp_path, "stage"))
    events = [executor.wait() for _ in range(4)]
    assert [[getattr(event, "epoch", None) for event in some] for some in events] == [[1], [2], [None], []]
    executor.submit(job_of(variant, tmp_path, "other"))
    executor.wait()
    executor.close()
    assert executor.wait() == []
    assert read_stage(tmp_path / "other") is None


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def workers() -> Iterator[Pool]:
    executor = processes([EXACT, EXACT])
    yield executor
    executor.close()


def test_an_idle_process_that_died_is_replaced_before_it_gets_a_stage(
    workers: Pool, variant: Variant, tmp_path: Path
) -> None:
    dead = list(workers._workers.values())
    for worker in dead:
        worker.process.kill()  # type: ignore[attr-defined]
        worker.process.join()  # type: ignore[attr-defined]
    workers.submit(job_of(variant, tmp_path, "stage"))
    assert ends(workers, 1) == {"stage": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked by a server on Linux only")
def test_where_a_process_cannot_be_started_the_others_do_its_work(
    workers: Pool, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = forkserver.connect_to_new_process

    def dying(fds: list[int]) -> tuple[int, int]:
        forkserver.ensure_running()
        server: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(server, signal.SIGSTOP)
        pipes = connect(fds)
        os.kill(server, signal.SIGKILL)
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
        monkeypatch.undo()
        return pipes

    monkeypatch.setattr(forkserver, "connect_to_new_process", dying)
    with pytest.raises(ExecutorError, match=r"^a worker process could not be started: .+$"):
        processes([EXACT])
    monkeypatch.setattr(forkserver, "connect_to_new_process", dying)
    first = workers._workers[0]
    first.process.kill()  # type: ignore[attr-defined]
    first.process.join()  # type: ignore[attr-defined]
    for name in ("one", "other"):
        workers.submit(job_of(variant, tmp_path, name))
    assert workers.slots == 1
    assert ends(workers, 2) == {"one": "", "other": ""}


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no masks")
def test_ctrl_c_stays_blocked_until_the_first_child_is_there() -> None:
    code = (
        "import signal\nfrom multiprocessing import resource_tracker\n"
        "from cpframe.execution.executors.processes import _deaf_children\n"
        "with _deaf_children():\n"
        "    resource_tracker.ensure_running()\n"
        "    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_closing_ends_processes_at_once(workers: Pool, variant: Variant, tmp_path: Path) -> None:
    workers.submit(job_of(variant, tmp_path, "long", 100_000))
    workers.wait()
    running = [worker.process for worker in workers._workers.values()]  # type: ignore[attr-defined]
    workers.close()
    assert not any(process.is_alive() for process in running)
    assert workers.slots == 0


SLEEPER = """
import time
from dataclasses import dataclass

@dataclass(frozen=True)
class Sleeper:
    def __call__(self, batch, rng):
        time.sleep(600)
"""

# A driver whose two workers are in the middle of an epoch that would last for many minutes.
DRIVER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from cpframe.execution.executors.processes import processes
from cpframe.numerics import Numerics
from cpframe.plan.stages import Stage
from cpframe.plugins.discovery import discover
from cpframe.spec.reader import read_spec
from cpframe.spec.model import Component
from cpframe.training.job import Job
from sleeper import Sleeper

if __name__ == "__main__":
    exact, folder = Numerics("cpu", "exact", "float32"), Path(sys.argv[1])
    (variant,) = read_spec(folder / "small.toml", discover()).variants
    variant = replace(variant, deficits={"noise": Component("sleeper/sleeper", "0", Sleeper())})
    pool = processes([exact, exact])
    for name in "ab":
        stage = Stage(name, None, 0, 0, "noise", 0, 2, (0.01, 0.01), restart_state=False)
        pool.submit(Job(stage, variant, (), exact, folder, folder / name, None, keep_state=False))
    print(*(worker.process.pid for worker in pool._workers.values()), flush=True)
    pool.wait()
"""


def test_workers_die_with_their_driver_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SPEC)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "driver.py").write_text(DRIVER)
    with subprocess.Popen(
        [sys.executable, "driver.py", str(tmp_path)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        workers = [int(pid) for pid in driver.stdout.readline().split()]
        time.sleep(1)
        assert all(_alive(pid) for pid in workers)
        driver.kill()
    assert len(workers) == 2
    give_up = time.monotonic() + 20
    while any(_alive(pid) for pid in workers) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- the pool: its rule for the dead, on workers that only play their part ------------------------------------------


class Actor:
    """Tells what its script says for each stage that it gets: events, or an error, in turn."""

    def __init__(self, script: dict[str, deque[list[WorkerMessage | WorkerDiedError]]]) -> None:
        self.script, self.alive, self.stopped = script, True, False
        self.lines: deque[WorkerMessage | WorkerDiedError] = deque()

    def start(self, job: Job) -> None:
        self.lines = deque(self.script[job.stage.id].popleft())

    def answer(self) -> WorkerMessage:
        line = self.lines.popleft()
        if isinstance(line, WorkerDiedError):
            self.alive = False
            raise line
        return line

    def stop(self) -> None:
        self.stopped = True


def told(*epochs: int, stage: str = "a", done: bool = False) -> list[Event]:
    events: list[Event] = [EpochDone(stage, epoch, 0.5) for epoch in epochs]
    return [*events, StageDone(stage, "")] if done else events


DEAD = WorkerDiedError("fell over")


class Cast:
    """A pool of actors, with a limit to how many can be hired."""

    def __init__(self, slots: int, hires: int, **script: list[list[WorkerMessage | WorkerDiedError]]) -> None:
        self.script = {stage: deque(lives) for stage, lives in script.items()}
        self.everybody: list[Actor] = []
        self.hires = slots + hires
        self.left = False
        first = [self.hire(slot) for slot in range(slots)]
        self.pool = Pool(first, self.hire, self.telling, self.leave)

    def hire(self, slot: int) -> Actor:
        if len(self.everybody) == self.hires:
            raise ExecutorError("nobody is left")
        self.everybody.append(Actor(self.script))
        return self.everybody[-1]

    def telling(self, workers: Sequence[Actor]) -> Actor:
        return next(worker for worker in workers if worker.lines)

    def leave(self) -> None:
        self.left = True


def test_three_deaths_at_the_same_epoch_fail_a_stage(variant: Variant, tmp_path: Path) -> None:
    lives: list[list[WorkerMessage | WorkerDiedError]] = [[told(1, 2), DEAD], [told(1), DEAD], [told(1, 2), DEAD]]
    cast = Cast(1, 9, a=lives, b=[[told(1, stage="b", done=True)]])
    cast.pool.submit(job_of(variant, tmp_path, "a"))
    events: list[Event] = []
    while not any(isinstance(event, StageDone) for event in events):
        events += cast.pool.wait()
    assert events == [*told(1, 2), StageDone("a", "its worker fell over, 3 times at the same epoch")]
    assert [actor.stopped for actor in cast.everybody] == [True, True, True, False]
    cast.pool.submit(job_of(variant, tmp_path, "b"))
    assert cast.pool.wait() == told(1, stage="b", done=True)


def test_a_stage_that_gets_further_each_time_is_tried_again_and_tells_each_epoch_once(
    variant: Variant, tmp_path: Path
) -> None:
    lives: list[list[WorkerMessage | WorkerDiedError]] = [
        *([told(*range(1, last + 1)), DEAD] for last in (1, 1, 2, 3, 3, 4)),
        [told(3, 4), told(5, done=True)],
    ]
    cast = Cast(1, 9, a=lives)
    cast.pool.submit(job_of(variant, tmp_path, "a"))
    events: list[Event] = []
    while not any(isinstance(event, StageDone) for event in events):
        events += cast.pool.wait()
    assert events == told(1, 2, 3, 4, 5, done=True)


def test_when_no_other_worker_can_be_had_those_left_do_the_work(variant: Variant, tmp_path: Path) -> None:
    script: dict[str, list[list[WorkerMessage | WorkerDiedError]]] = {
        "a": [[told(1), DEAD], [told(2, done=True)]],
        "b": [[told(1, stage="b", done=True)]],
    }
    cast = Cast(2, 0, **script)
    for name in "ab":
        cast.pool.submit(job_of(variant, tmp_path, name))
    events = [event for _ in range(4) for event in cast.pool.wait()]
    assert events == [*told(1), *told(1, stage="b", done=True), *told(2, done=True)]
    assert cast.pool.slots == 1


def test_when_the_last_worker_is_lost_the_pool_says_so(variant: Variant, tmp_path: Path) -> None:
    cast = Cast(1, 0, a=[[DEAD]])
    cast.pool.submit(job_of(variant, tmp_path, "a"))
    with pytest.raises(ExecutorError, match="nobody is left"):
        cast.pool.wait()
    cast.pool.close()
    assert cast.left


def test_a_refused_commit_ends_its_stage_only(variant: Variant, tmp_path: Path) -> None:
    cast = Cast(2, 0, a=[[StoreError("full")]], b=[[told(1, stage="b", done=True)]])
    for name in "ab":
        cast.pool.submit(job_of(variant, tmp_path, name))
    with pytest.raises(StoreError, match="full"):
        cast.pool.wait()
    assert cast.pool.wait() == told(1, stage="b", done=True)


# --- which executor, how many workers, on which device --------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "workers", "expected"),
    [
        (["cpu"], 3, ["cpu", "cpu", "cpu"]),
        (["cuda:0", "cuda:1"], 2, ["cuda:0", "cuda:1"]),
        (["cuda:0", "cuda:1"], 1, ["cuda:0"]),
        (["cuda:0", "cuda:1"], 5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        (["cuda:1"], 2, ["cuda:1", "cuda:1"]),
    ],
)
def test_workers_share_the_devices_out_and_results_keep_their_identity(
    there: list[str], workers: int, expected: list[str]
) -> None:
    whole = Numerics(there[0].partition(":")[0], "fast", "bfloat16")
    each = assign_devices(whole, there, workers)
    assert [one.device for one in each] == expected
    assert {one.identity for one in each} == {whole.identity}


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("cpu", 4, ["cpu"]), ("mps", 0, ["mps"]), ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]), ("cuda:1", 3, ["cuda:1"])],
)
def test_plain_cuda_is_every_gpu(device: str, gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert list(devices(Numerics(device, "fast", "bfloat16"))) == expected


@pytest.mark.parametrize(
    ("executor", "workers", "useful", "device", "expected"),
    [
        ("auto", None, 9, "cpu", 4),
        ("auto", None, 3, "cpu", 3),
        ("auto", 6, 9, "cpu", 6),
        ("auto", None, 1, "cpu", "inline"),
        ("auto", 1, 9, "cpu", "inline"),
        ("auto", 2, 0, "cpu", "inline"),
        ("inline", None, 9, "cpu", "inline"),
        ("processes", 1, 9, "cpu", 1),
        ("processes", None, 9, "cuda", 2),
        ("auto", None, 9, "cuda", 2),
        ("auto", None, 9, "cuda:1", "inline"),
        ("ray", 2, 0, "cpu", "inline"),
    ],
)
def test_one_worker_a_core_or_a_gpu_unless_told_otherwise(
    executor: str,
    workers: int | None,
    useful: int,
    device: str,
    expected: int | str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(choosing, "cores", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(choosing, "processes", len)
    monkeypatch.setattr(choosing, "Inline", lambda numerics: "inline")
    assert start(executor, workers, useful, Numerics(device, "exact", "float32"), tmp_path) == expected


def test_what_no_machine_can_do_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="--executor proceses: is not an executor; did you mean 'processes'"):
        check("proceses", None)
    with pytest.raises(SpecError, match="--executor inline: trains one stage at a time; for 2 workers use processes"):
        check("inline", 2)
    for known in ("auto", "inline", "processes"):
        check(known, 1)
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    for address in ("ray", "ray://somewhere:10001"):
        with pytest.raises(ExecutorError, match=r"Ray is not installed: pip install 'cpframe\[ray\]'"):
            check(address, 2)


def test_observers_never_share_a_process_with_training() -> None:
    assert [beside_observers(one) for one in ("auto", "processes", "ray")] == ["processes", "processes", "ray"]
    with pytest.raises(SpecError, match="--executor inline: trains in the process in which observers live"):
        beside_observers("inline")


# --- Ray: what is refused -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """A real Ray on this machine, with one core."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'cpframe[ray]'")
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_running")
def test_ray_is_not_asked_for_what_it_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from cpframe.execution.executors import ray_actors as on_ray

    (tmp_path / "file").touch()
    gpu, second = replace(EXACT, device="cuda"), replace(EXACT, device="cuda:1")
    with pytest.raises(ExecutorError, match="--workers 2: there is room for 1 on Ray, which has 1 CPUs"):
        on_ray.ray_actors("ray", 2, 9, EXACT, tmp_path)
    with pytest.raises(ExecutorError, match="--workers 1: there is room for 0 on Ray, which has 1 CPUs and 0 GPUs"):
        on_ray.ray_actors("ray", None, 9, gpu, tmp_path)
    with pytest.raises(ExecutorError, match="--device cuda:1: Ray chooses among the GPUs: use --device cuda"):
        on_ray.ray_actors("ray", 1, 9, second, tmp_path)
    with pytest.raises(ExecutorError, match=r"not shared with the Ray worker on .*: it cannot write there: Not a dir"):
        on_ray.ray_actors("ray", 1, 9, EXACT, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    # Somebody else holds the only core.
    other = ray.remote(num_cpus=1)(Actor).remote({})
    ray.get(other.stop.remote())
    monkeypatch.setattr(on_ray, "_STARTING_SECONDS", 1.0)
    with pytest.raises(ExecutorError, match="others use what is there"):
        on_ray.ray_actors("ray", 1, 9, EXACT, tmp_path)
    ray.kill(other)


def test_an_address_at_which_nothing_answers_is_told(tmp_path: Path) -> None:
    name = "cpframe.execution.executors.ray_actors"
    on_ray = pytest.importorskip(name, reason="Ray is not installed", exc_type=ImportError)
    for address in ("ray://127.0.0.1:1", "ray://nowhere.invalid:10001", "ray://127.0.0.1:port"):
        with pytest.raises(ExecutorError, match=f"--executor {address}: nothing answers there: "):
            on_ray.ray_actors(address, 1, 1, EXACT, tmp_path)
