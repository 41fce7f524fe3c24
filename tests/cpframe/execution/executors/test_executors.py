"""Single executors: assignment and replacement of workers, the choice of an executor, and invalid options."""

from __future__ import annotations

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
from cpframe.execution.executors import Executor, selection
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.processes import start_processes
from cpframe.execution.executors.selection import observed_executor, start_executor, validate_executor
from cpframe.execution.executors.worker import WorkerMessage
from cpframe.numerics import Numerics, assign_devices, devices
from cpframe.spec.model import Spec
from cpframe.store import StoreError, read_stage
from cpframe.testing import small_spec
from cpframe.testing.training import EXACT, make_job, make_stage
from cpframe.training.job import EpochDone, Event, Job, StageDone


@pytest.fixture(scope="module")
def spec() -> Spec:
    return small_spec()


def job_of(spec: Spec, folder: Path, name: str, epochs: int = 2) -> Job:
    return make_job(make_stage(name, epochs), spec, folder)


def wait_for(executor: Executor, count: int) -> dict[str, str]:
    """Wait until `count` stages are done, and return the failure of each."""
    failures: dict[str, str] = {}
    while len(failures) < count:
        failures |= {event.stage: event.failure for event in executor.wait() if isinstance(event, StageDone)}
    return failures


# --- inline ---------------------------------------------------------------------------------------------------------


def test_inline_trains_one_epoch_per_wait(spec: Spec, tmp_path: Path) -> None:
    executor = Inline(EXACT)
    executor.submit(job_of(spec, tmp_path, "stage"))
    events = [executor.wait() for _ in range(4)]
    assert [[getattr(event, "epoch", None) for event in batch] for batch in events] == [[1], [2], [None], []]
    executor.submit(job_of(spec, tmp_path, "other"))
    executor.wait()
    executor.close()
    assert executor.wait() == []
    assert read_stage(tmp_path / "other") is None


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def workers() -> Iterator[Pool]:
    executor = start_processes([EXACT, EXACT])
    yield executor
    executor.close()


def test_an_idle_process_that_died_is_replaced_before_it_gets_a_stage(
    workers: Pool, spec: Spec, tmp_path: Path
) -> None:
    dead = list(workers._workers.values())
    for worker in dead:
        worker.process.kill()  # type: ignore[attr-defined]
        worker.process.join()  # type: ignore[attr-defined]
    workers.submit(job_of(spec, tmp_path, "stage"))
    assert wait_for(workers, 1) == {"stage": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked by a server on Linux only")
def test_if_a_process_cannot_be_started_the_others_do_its_work(
    workers: Pool, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = forkserver.connect_to_new_process

    def connect_and_kill(fds: list[int]) -> tuple[int, int]:
        forkserver.ensure_running()
        server: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(server, signal.SIGSTOP)
        pipes = connect(fds)
        os.kill(server, signal.SIGKILL)
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
        monkeypatch.undo()
        return pipes

    monkeypatch.setattr(forkserver, "connect_to_new_process", connect_and_kill)
    with pytest.raises(ExecutorError, match=r"^cannot start a worker process: .+$"):
        start_processes([EXACT])
    monkeypatch.setattr(forkserver, "connect_to_new_process", connect_and_kill)
    first = workers._workers[0]
    first.process.kill()  # type: ignore[attr-defined]
    first.process.join()  # type: ignore[attr-defined]
    for name in ("one", "other"):
        workers.submit(job_of(spec, tmp_path, name))
    assert workers.slots == 1
    assert wait_for(workers, 2) == {"one": "", "other": ""}


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_ctrl_c_stays_blocked_until_the_first_child_exists() -> None:
    code = (
        "import signal\nfrom multiprocessing import resource_tracker\n"
        "from cpframe.execution.executors.processes import _block_sigint\n"
        "with _block_sigint():\n"
        "    resource_tracker.ensure_running()\n"
        "    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_closing_ends_processes_at_once(workers: Pool, spec: Spec, tmp_path: Path) -> None:
    workers.submit(job_of(spec, tmp_path, "long", 100_000))
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

# A driver whose two workers are in an epoch that lasts for many minutes.
DRIVER = """
import sys
from dataclasses import replace
from pathlib import Path
from cpframe.execution.executors.processes import start_processes
from cpframe.spec.model import Component
from cpframe.testing import small_spec
from cpframe.testing.training import EXACT, make_job, make_stage
from sleeper import Sleeper

if __name__ == "__main__":
    spec, folder = small_spec(deficits={"noise": {"use": "noise"}}), Path(sys.argv[1])
    deficits = {"noise": Component("sleeper/sleeper", "0", Sleeper())}
    spec = replace(spec, variants=(replace(spec.variants[0], deficits=deficits),))
    pool = start_processes([EXACT, EXACT])
    for name in "ab":
        pool.submit(make_job(make_stage(name, 2, "noise"), spec, folder))
    print(*(worker.process.pid for worker in pool._workers.values()), flush=True)
    pool.wait()
"""


def test_workers_end_with_their_driver_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
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
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- the pool: how it handles dead workers --------------------------------------------------------------------------


class FakeWorker:
    """A worker that returns or raises, for each stage, the messages and errors of its script in turn."""

    def __init__(self, script: dict[str, deque[list[WorkerMessage | WorkerDiedError]]]) -> None:
        self.script, self.alive, self.stopped = script, True, False
        self.messages: deque[WorkerMessage | WorkerDiedError] = deque()

    def start(self, job: Job) -> None:
        self.messages = deque(self.script[job.stage.id].popleft())

    def receive(self) -> WorkerMessage:
        message = self.messages.popleft()
        if isinstance(message, WorkerDiedError):
            self.alive = False
            raise message
        return message

    def stop(self) -> None:
        self.stopped = True


def epochs_done(*epochs: int, stage: str = "a", done: bool = False) -> list[Event]:
    events: list[Event] = [EpochDone(stage, epoch, 0.5) for epoch in epochs]
    return [*events, StageDone(stage, "")] if done else events


DEAD = WorkerDiedError("killed by a test")


class FakePool:
    """A pool of fake workers, of which only `replacements` can be replaced."""

    def __init__(self, slots: int, replacements: int, **script: list[list[WorkerMessage | WorkerDiedError]]) -> None:
        self.script = {stage: deque(attempts) for stage, attempts in script.items()}
        self.workers: list[FakeWorker] = []
        self.limit = slots + replacements
        self.disconnected = False
        first = [self.start_worker(slot) for slot in range(slots)]
        self.pool = Pool(first, self.start_worker, self.wait_for_message, self.disconnect)

    def start_worker(self, slot: int) -> FakeWorker:
        if len(self.workers) == self.limit:
            raise ExecutorError("no more workers")
        self.workers.append(FakeWorker(self.script))
        return self.workers[-1]

    def wait_for_message(self, workers: Sequence[FakeWorker]) -> FakeWorker:
        return next(worker for worker in workers if worker.messages)

    def disconnect(self) -> None:
        self.disconnected = True


def test_three_deaths_at_the_same_epoch_fail_a_stage(spec: Spec, tmp_path: Path) -> None:
    attempts: list[list[WorkerMessage | WorkerDiedError]] = [
        [epochs_done(1, 2), DEAD],
        [epochs_done(1), DEAD],
        [epochs_done(1, 2), DEAD],
    ]
    fake = FakePool(1, 9, a=attempts, b=[[epochs_done(1, stage="b", done=True)]])
    fake.pool.submit(job_of(spec, tmp_path, "a"))
    events: list[Event] = []
    while not any(isinstance(event, StageDone) for event in events):
        events += fake.pool.wait()
    assert events == [*epochs_done(1, 2), StageDone("a", "its worker died 3 times at the same epoch: killed by a test")]
    assert [worker.stopped for worker in fake.workers] == [True, True, True, False]
    fake.pool.submit(job_of(spec, tmp_path, "b"))
    assert fake.pool.wait() == epochs_done(1, stage="b", done=True)


def test_a_stage_that_makes_progress_is_tried_again_and_reports_each_epoch_once(spec: Spec, tmp_path: Path) -> None:
    attempts: list[list[WorkerMessage | WorkerDiedError]] = [
        *([epochs_done(*range(1, last + 1)), DEAD] for last in (1, 1, 2, 3, 3, 4)),
        [epochs_done(3, 4), epochs_done(5, done=True)],
    ]
    fake = FakePool(1, 9, a=attempts)
    fake.pool.submit(job_of(spec, tmp_path, "a"))
    events: list[Event] = []
    while not any(isinstance(event, StageDone) for event in events):
        events += fake.pool.wait()
    assert events == epochs_done(1, 2, 3, 4, 5, done=True)


def test_when_a_worker_cannot_be_replaced_the_others_do_its_work(spec: Spec, tmp_path: Path) -> None:
    script: dict[str, list[list[WorkerMessage | WorkerDiedError]]] = {
        "a": [[epochs_done(1), DEAD], [epochs_done(2, done=True)]],
        "b": [[epochs_done(1, stage="b", done=True)]],
    }
    fake = FakePool(2, 0, **script)
    for name in "ab":
        fake.pool.submit(job_of(spec, tmp_path, name))
    events = [event for _ in range(4) for event in fake.pool.wait()]
    assert events == [*epochs_done(1), *epochs_done(1, stage="b", done=True), *epochs_done(2, done=True)]
    assert fake.pool.slots == 1


def test_when_the_last_worker_cannot_be_replaced_the_pool_raises(spec: Spec, tmp_path: Path) -> None:
    fake = FakePool(1, 0, a=[[DEAD]])
    fake.pool.submit(job_of(spec, tmp_path, "a"))
    with pytest.raises(ExecutorError, match="no more workers"):
        fake.pool.wait()
    fake.pool.close()
    assert fake.disconnected


def test_a_commit_that_fails_ends_only_its_own_stage(spec: Spec, tmp_path: Path) -> None:
    fake = FakePool(2, 0, a=[[StoreError("full")]], b=[[epochs_done(1, stage="b", done=True)]])
    for name in "ab":
        fake.pool.submit(job_of(spec, tmp_path, name))
    with pytest.raises(StoreError, match="full"):
        fake.pool.wait()
    assert fake.pool.wait() == epochs_done(1, stage="b", done=True)


# --- the choice of executor, number of workers and devices ----------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "workers", "expected"),
    [
        (["cpu"], 3, ["cpu", "cpu", "cpu"]),
        (["cuda:0", "cuda:1"], 2, ["cuda:0", "cuda:1"]),
        (["cuda:0", "cuda:1"], 1, ["cuda:0"]),
        (["cuda:0", "cuda:1"], 5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        (["cuda:1"], 2, ["cuda:1", "cuda:1"]),
    ],
)
def test_workers_get_the_devices_in_turn_and_results_keep_their_identity(
    names: list[str], workers: int, expected: list[str]
) -> None:
    whole = Numerics(names[0].partition(":")[0], "fast", "bfloat16")
    each = assign_devices(whole, names, workers)
    assert [one.device for one in each] == expected
    assert {one.identity for one in each} == {whole.identity}


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("cpu", 4, ["cpu"]), ("mps", 0, ["mps"]), ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]), ("cuda:1", 3, ["cuda:1"])],
)
def test_plain_cuda_means_every_gpu(
    device: str, gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_the_default_is_one_worker_per_core_or_gpu(
    executor: str,
    workers: int | None,
    useful: int,
    device: str,
    expected: int | str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(selection, "cores", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(selection, "start_processes", len)
    monkeypatch.setattr(selection, "Inline", lambda numerics: "inline")
    assert start_executor(executor, workers, useful, Numerics(device, "exact", "float32"), tmp_path) == expected


def test_invalid_executor_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="--executor proceses: unknown executor; did you mean 'processes'"):
        validate_executor("proceses", None)
    with pytest.raises(
        SpecError, match="--executor inline: trains one stage at a time and cannot use 2 workers; use --executor proc"
    ):
        validate_executor("inline", 2)
    for known in ("auto", "inline", "processes"):
        validate_executor(known, 1)
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    for address in ("ray", "ray://somewhere:10001"):
        with pytest.raises(ExecutorError, match=r"Ray is not installed: pip install 'cpframe\[ray\]'"):
            validate_executor(address, 2)


def test_observers_never_share_a_process_with_training() -> None:
    assert [observed_executor(name) for name in ("auto", "processes", "ray")] == ["processes", "processes", "ray"]
    with pytest.raises(SpecError, match="--executor inline: cannot train in the process of the observers"):
        observed_executor("inline")


# --- Ray ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """A Ray cluster on this machine, with one core."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield
    ray.shutdown()


@pytest.mark.needs_extra("ray")
@pytest.mark.usefixtures("ray_running")
def test_resources_and_folders_that_ray_does_not_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from cpframe.execution.executors import ray_actors

    (tmp_path / "file").touch()
    gpu, second = replace(EXACT, device="cuda"), replace(EXACT, device="cuda:1")
    with pytest.raises(
        ExecutorError, match=r"--workers 2: the Ray .* for 1 worker \(CPU: 1\); each worker needs 1 CPU$"
    ):
        ray_actors.start_ray_actors("ray", 2, 9, EXACT, tmp_path)
    with pytest.raises(ExecutorError, match=r"--executor ray: .* has resources for 0 workers \(CPU: 1, GPU: 0\); each"):
        ray_actors.start_ray_actors("ray", None, 9, gpu, tmp_path)
    with pytest.raises(
        ExecutorError, match="--device cuda:1: Ray assigns GPUs to its workers itself; use --device cuda"
    ):
        ray_actors.start_ray_actors("ray", 1, 9, second, tmp_path)
    with pytest.raises(ExecutorError, match=r"not shared with the Ray worker on .*: it cannot write there: Not a dir"):
        ray_actors.start_ray_actors("ray", 1, 9, EXACT, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    # Another actor has the only core.
    other = ray.remote(num_cpus=1)(FakeWorker).remote({})
    ray.get(other.stop.remote())
    monkeypatch.setattr(ray_actors, "_START_SECONDS", 1.0)
    with pytest.raises(ExecutorError, match=r"^timed out after 1 s waiting for 1 Ray worker; the cluster is busy$"):
        ray_actors.start_ray_actors("ray", 1, 9, EXACT, tmp_path)
    ray.kill(other)


@pytest.mark.needs_extra("ray")
def test_an_address_at_which_no_server_answers_is_refused(tmp_path: Path) -> None:
    from cpframe.execution.executors import ray_actors

    for address in ("ray://127.0.0.1:1", "ray://nowhere.invalid:10001", "ray://127.0.0.1:port"):
        with pytest.raises(ExecutorError, match=f"--executor {address}: no server answers at this address: "):
            ray_actors.start_ray_actors(address, 1, 1, EXACT, tmp_path)
