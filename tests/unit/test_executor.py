"""Executors: the same bytes wherever a batch runs, and clear words when it cannot."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
from distributed.comm import CommClosedError

from cycler_da.errors import ConfigError, WeightsMismatch
from cycler_da.executor import (
    AddressExecutorSpec,
    CudaExecutorSpec,
    Executor,
    ExecutorFailed,
    LocalExecutorSpec,
    ModelSource,
    SchedulerLost,
    SerialExecutorSpec,
    ThreadsExecutorSpec,
    WorkersExecutor,
)
from cycler_da.executor import cuda as cuda_module
from cycler_da.executor import workers as workers_module
from cycler_da.executor.address import require_same_versions, versions
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.registry import lookup
from cycler_da.systems.lorenz96 import Lorenz96Spec

sys.path.insert(0, str(Path(__file__).parent))  # workers inherit it and find the toy by name
import toy_forecast

TIMES = toy_forecast.START + toy_forecast.STEP * np.arange(1, 4)
BATCH = 3


def forecast(executor: Executor, spec: toy_forecast.ToySpec, *, n_members: int = 8) -> np.ndarray:
    source = ModelSource(spec, toy_forecast.layout(), spec.digest)
    start = toy_forecast.ensemble(n_members)
    result = executor.forecast(source, start, TIMES, noise=Noise(3, 17), batch=BATCH)
    assert result.members == start.members
    assert np.array_equal(result.valid_times, TIMES)
    return result.values.numpy()


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return forecast(SerialExecutorSpec().build(), toy_forecast.ToySpec())


def local(workers: int) -> WorkersExecutor:
    return LocalExecutorSpec(workers=workers, memory_limit="0").build()


@pytest.fixture(scope="module")
def one_worker() -> Iterator[WorkersExecutor]:
    with local(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def two_workers() -> Iterator[WorkersExecutor]:
    with local(2) as executor:
        yield executor


def test_one_worker_gives_the_bytes_of_the_serial_executor(one_worker: WorkersExecutor, reference: np.ndarray) -> None:
    assert forecast(one_worker, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


def test_two_workers_give_the_bytes_of_the_serial_executor(two_workers: WorkersExecutor, reference: np.ndarray) -> None:
    assert forecast(two_workers, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


def test_four_workers_give_the_bytes_of_the_serial_executor(reference: np.ndarray) -> None:
    with local(4) as executor:
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_give_the_bytes_of_the_serial_executor(workers: int, reference: np.ndarray) -> None:
    with ThreadsExecutorSpec(workers=workers).build() as executor:
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


def test_threads_leave_the_caller_s_number_of_torch_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadsExecutorSpec(workers=2).build() as executor:
            forecast(executor, toy_forecast.ToySpec())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_thread_keeps_its_type_and_the_executor_goes_on(reference: np.ndarray) -> None:
    with ThreadsExecutorSpec(workers=2).build() as executor:
        with pytest.raises(WeightsMismatch, match="digest toy, expected another"):
            forecast(executor, toy_forecast.ToySpec(digest="another"))
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


def test_threads_take_jobs_as_results_are_asked_for_and_run_them_in_the_caller_s_mode() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(20):
            taken.append(job)
            yield job

    def mode_of(job: int) -> tuple[int, bool]:
        return job, torch.is_inference_mode_enabled()

    with ThreadsExecutorSpec(workers=2).build() as executor:
        with torch.inference_mode():
            results = executor.map(mode_of, jobs())
            assert next(results) == (0, True)
            assert len(taken) == 3
            assert list(results) == [(job, True) for job in range(1, 20)]
        assert list(executor.map(mode_of, [7])) == [(7, False)]


def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"executor\.workers is -1"):
        ThreadsExecutorSpec(workers=-1)


def test_the_serial_executor_gives_the_bytes_of_the_model_batch_by_batch(reference: np.ndarray) -> None:
    model, start = toy_forecast.ToySpec().build(toy_forecast.layout()), toy_forecast.ensemble(8)
    parts = [start.select(slice(i, i + BATCH)) for i in (0, 3, 6)]
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    direct = torch.cat([model.forecast(part, TIMES, noise=Noise(3, 17)).values for part in parts])
    torch.set_num_threads(torch_threads)
    assert direct.numpy().tobytes() == reference.tobytes()


def test_the_serial_executor_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        forecast(SerialExecutorSpec().build(), toy_forecast.ToySpec())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_worker_builds_the_model_once(two_workers: WorkersExecutor, tmp_path: Path) -> None:
    spec = toy_forecast.ToySpec(folder=str(tmp_path), pause=0.05)
    for _ in range(3):
        forecast(two_workers, spec)
    builders = [name.split(".")[1] for name in spec.notes("built.*")]
    runners = {name.split(".")[2] for name in spec.notes("ran.*")}
    assert len(spec.notes("ran.*")) == 9
    assert sorted(builders) == sorted(runners)


def test_a_killed_worker_s_batch_is_redone_with_the_same_bytes(
    two_workers: WorkersExecutor, tmp_path: Path, reference: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    spec = toy_forecast.ToySpec(folder=str(tmp_path), kills=1, pause=0.2)
    assert forecast(two_workers, spec).tobytes() == reference.tobytes()
    assert len(spec.notes("killed.*")) == 1
    assert len(spec.notes("ran.10.*")) == 2
    assert "event=workers_lost count=1 redone=yes" in caplog.text


def test_a_batch_that_always_kills_its_worker_is_given_up_with_advice(tmp_path: Path) -> None:
    spec = toy_forecast.ToySpec(folder=str(tmp_path), kills=99)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local(1) as executor,
        pytest.raises(ExecutorFailed, match="smaller forecast batch") as failure,
    ):
        forecast(executor, spec)
    assert failure.value.exit_code == 69


def test_an_error_of_the_model_keeps_its_type_through_a_worker(one_worker: WorkersExecutor) -> None:
    with pytest.raises(WeightsMismatch, match="digest toy, expected another"):
        forecast(one_worker, toy_forecast.ToySpec(digest="another"))


def test_workers_listen_on_the_loopback_interface_only(one_worker: WorkersExecutor) -> None:
    forecast(one_worker, toy_forecast.ToySpec(), n_members=1)
    addresses = {address for _, address in _listening()}
    assert addresses == {"127.0.0.1"}


def test_dask_keeps_quiet_from_its_start_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), local(1) as executor:
        forecast(executor, toy_forecast.ToySpec(), n_members=1)
    assert "distributed" not in {record.name.split(".")[0] for record in caplog.records}


def test_workers_that_are_killed_while_they_start_are_for_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**named: object) -> None:
        raise RuntimeError("Nanny failed to start worker process")

    monkeypatch.setattr("cycler_da.executor.local.LocalCluster", fail)
    with pytest.raises(SchedulerLost, match="the worker processes did not start"):
        LocalExecutorSpec(workers=1).build()._connected()


def test_an_existing_scheduler_is_found_by_its_address(one_worker: WorkersExecutor, reference: np.ndarray) -> None:
    forecast(one_worker, toy_forecast.ToySpec(), n_members=1)
    with AddressExecutorSpec(address=one_worker._connection.address).build() as executor:
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == reference.tobytes()


def test_workers_that_die_while_they_are_asked_for_their_versions_are_tried_again(
    one_worker: WorkersExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object, **named: object) -> None:
        raise CommClosedError("in <TCP (closed) Scheduler Broadcast>: Stream is closed")

    forecast(one_worker, toy_forecast.ToySpec(), n_members=1)
    monkeypatch.setattr("cycler_da.executor.address.Client.run", lost)
    executor = AddressExecutorSpec(address=one_worker._connection.address).build()
    with pytest.raises(SchedulerLost, match=r"lost the dask workers of .* Stream is closed") as failure:
        forecast(executor, toy_forecast.ToySpec())
    assert failure.value.exit_code == 75


def test_an_absent_scheduler_is_named_with_the_command_that_starts_one() -> None:
    executor = AddressExecutorSpec(address="tcp://127.0.0.1:9", timeout=0.5).build()
    with pytest.raises(SchedulerLost, match=r"tcp://127\.0\.0\.1:9 .* `dask scheduler`") as failure:
        forecast(executor, toy_forecast.ToySpec())
    assert failure.value.exit_code == 75


def test_workers_with_another_torch_are_refused() -> None:
    with pytest.raises(ExecutorFailed, match=r"tcp://w:1 has torch 0\.1"):
        require_same_versions({"tcp://w:1": {**versions(), "torch": "0.1"}}, "tcp://s:1")


def test_no_worker_for_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(workers_module, "WITHOUT_WORKERS", 0.6)
    with local(1) as executor:
        forecast(executor, toy_forecast.ToySpec(), n_members=1)
        executor._connection.cluster.scale(0)
        with pytest.raises(SchedulerLost, match="no worker for"):
            forecast(executor, toy_forecast.ToySpec())
        assert executor._connection is None


def test_the_batch_must_hold_a_member() -> None:
    source = ModelSource(toy_forecast.ToySpec(), toy_forecast.layout(), "toy")
    with pytest.raises(ConfigError, match="at least 1"):
        SerialExecutorSpec().build().forecast(source, toy_forecast.ensemble(2), TIMES, noise=Noise(1), batch=0)


def test_every_kind_is_found_by_its_name() -> None:
    kinds = {kind: lookup("executor", kind).__name__ for kind in ("serial", "local", "address", "cuda")}
    assert kinds["local"] == "LocalExecutorSpec" and kinds["cuda"] == "CudaExecutorSpec"


# ------------------------------------------------------------------ GPUs


def test_cuda_without_a_gpu_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match=r"executor\.kind: local"):
        CudaExecutorSpec().build()


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [("0,2", ("0", "2")), ("", ()), ("-1", ()), ("1,-1,3", ("1",)), ("GPU-ab, MIG-cd", ("GPU-ab", "MIG-cd"))],
)
def test_visible_gpus_follow_the_cuda_variable(listed: str, gpus: tuple[str, ...]) -> None:
    assert cuda_module.visible_gpus({"CUDA_VISIBLE_DEVICES": listed}) == gpus


def test_each_gpu_worker_sees_its_own_gpu_and_takes_one_batch(reference: np.ndarray) -> None:
    def connect() -> workers_module.Connection:
        cluster = cuda_module._nanny_cluster(("3", "5"), memory_limit="auto")
        return workers_module.Connection(workers_module.Client(cluster), cluster.scheduler_address, cluster)

    with WorkersExecutor(connect, resources=cuda_module.ONE_GPU) as executor:
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == reference.tobytes()
        client = executor._connection.client
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        offered = [worker["resources"] for worker in client.scheduler_info()["workers"].values()]
    assert sorted(seen.values()) == ["3", "5"]
    assert offered == [{"GPU": 1.0}] * 2


def test_dask_cuda_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    fake = types.ModuleType("dask_cuda")
    fake.LocalCUDACluster = lambda **options: asked.update(options)
    monkeypatch.setitem(sys.modules, "dask_cuda", fake)
    cuda_module._dask_cuda_cluster(("0", "1"), memory_limit="4GB")
    assert asked["CUDA_VISIBLE_DEVICES"] == ["0", "1"]
    assert asked["resources"] == {"GPU": 1.0} and asked["host"] == "127.0.0.1"


@pytest.mark.gpu
def test_gpu_workers_repeat_their_own_bytes() -> None:
    with CudaExecutorSpec().build() as executor:
        first = forecast(executor, toy_forecast.ToySpec())
        assert forecast(executor, toy_forecast.ToySpec()).tobytes() == first.tobytes()


# ------------------------------------------------------------------ what this process listens on


def _listening() -> list[tuple[int, str]]:
    inodes = {}
    for pid in _own_and_children():
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes[target[8:-1]] = pid
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:
                address = cells[1].split(":")[0]
                octets = [str(int(address[i : i + 2], 16)) for i in (6, 4, 2, 0)]
                found.append((inodes[cells[9]], ".".join(octets) if table == "tcp" else address))
    return found


def _own_and_children() -> set[int]:
    family, parents = {os.getpid()}, {}
    for line in subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True).stdout.splitlines()[1:]:
        pid, parent = map(int, line.split())
        parents[pid] = parent
    for pid in parents:
        above = pid
        while above in parents and above not in family:
            above = parents[above]
        if above in family:
            family.add(pid)
    return family


def test_a_recipe_builds_in_a_process_that_has_imported_nothing_else() -> None:
    """A worker that is started anew knows only what unpickling imports; a soak of the service found it wanting."""
    learned, layout = Path("data/weights/lorenz96/step"), Lorenz96Spec().layout()
    specs = (NumericalSpec(system={"kind": "lorenz96"}), InterpolantSpec(weights=str(learned)))
    recipes = [ModelSource(spec, layout, spec.build(layout).digest) for spec in specs]
    code = "import pickle, sys\nfor recipe in pickle.load(sys.stdin.buffer): print(recipe.build().digest)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(recipes), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == [recipe.digest for recipe in recipes]
