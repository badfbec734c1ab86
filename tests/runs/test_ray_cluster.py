"""Jobs on a Ray cluster: three machines, one of which is lost, and the errors of clusters that are of no use."""

import importlib.util
import os
import time

import pytest

from configs.errors import UserError
from leap.files import read_json
from leap.runs.ray_cluster import run_on_ray
from leap.runs.workers import Needs
from tests.conftest import REPOSITORY, assert_one_line_error, linked_workspace, run_script, start_script
from tests.runs.cluster_work import die_once, double, fail_on_three, variable
from tests.vlabench.test_jobs import assert_same_results

WITH_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not WITH_RAY, reason="needs Ray")


@pytest.fixture(scope="module")
def three_machines():
    """A cluster of three machines, all of them here, of one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_timeout_ms", "500")
        patch.setenv("RAY_health_check_initial_delay_ms", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.mark.skipif(WITH_RAY, reason="Ray is installed")
def test_a_cluster_without_ray_is_an_error_with_the_command():
    with pytest.raises(UserError, match=r'pip install -e "\.\[cluster\]"'):
        list(run_on_ray(double, [1], "auto"))


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(workspace):
    done = run_script("utils/task_runner.py", "--commands", "true", "--ray", "127.0.0.1:1")
    assert_one_line_error(done, "no Ray cluster at 127.0.0.1:1", "ray start --head")


@needs_ray
def test_workers_are_told_which_host_to_ask_and_no_token(monkeypatch, three_machines):
    told = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    for name, value in (told | {"HF_TOKEN": "secret"}).items():
        monkeypatch.setenv(name, value)
    found = dict(run_on_ray(variable, [*told, "HF_TOKEN"], three_machines.address))
    assert found == told | {"HF_TOKEN": None}


@needs_ray
def test_every_item_is_done_and_that_of_a_killed_worker_again(tmp_path, three_machines):
    items = [str(tmp_path / str(number)) for number in range(3)]
    found = dict(run_on_ray(die_once, items, three_machines.address))
    assert set(found) == set(items)
    assert all(isinstance(pid, int) for pid in found.values())
    failure = dict(run_on_ray(fail_on_three, [3], three_machines.address))[3]
    assert failure.reason == "ValueError: three"


@needs_ray
def test_what_no_machine_has_is_an_error(three_machines):
    with pytest.raises(UserError, match="no machine of the cluster has what a job needs: 1 GPUs, 1 CPUs"):
        list(run_on_ray(double, [1], three_machines.address, needs=Needs(gpus=1)))


@needs_ray
def test_an_evaluation_on_a_cluster_writes_what_one_machine_writes(tmp_path, demo, three_machines, monkeypatch):
    root = linked_workspace(demo, tmp_path / "work space")
    monkeypatch.setenv("LEAP_WORKSPACE", str(root))
    flags = ["--planner", "constant", "--dimension", "Spatial", "M&T", "--num_episodes", "2"]
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert run_script("evaluation/run_vlm_evaluation.py", *flags, "--results", alone).returncode == 0
    spread_flags = ["--results", spread, "--ray", three_machines.address]
    done = run_script("evaluation/run_vlm_evaluation.py", *flags, *spread_flags)
    assert done.returncode == 0, done.stderr
    assert_same_results(alone, spread)


@needs_ray
def test_sixty_jobs_are_each_done_once_though_a_machine_is_lost(tmp_path, three_machines, space):
    begins, ends = tmp_path / "begins", tmp_path / "ends"
    begins.touch()
    lost = three_machines.add_node(num_cpus=1)
    machine = lost.all_processes["raylet"][0].process.pid
    slow_there = f"[ $RAY_RAYLET_PID = {machine} ] && sleep 20"
    commands = [f"echo $RAY_RAYLET_PID {n} >> {begins}; {slow_there}; echo {n} >> {ends}" for n in range(60)]
    process = start_script(
        "utils/task_runner.py",
        *("--commands", *commands, "--ray", three_machines.address),
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "LEAP_WORKSPACE": str(space)},
    )
    try:
        limit = time.monotonic() + 90
        while not (there := [line.split()[1] for line in begins.read_text().splitlines() if str(machine) in line]):
            assert time.monotonic() < limit, "no job began on the machine"
            assert process.poll() is None
            time.sleep(0.05)
        three_machines.remove_node(lost, allow_graceful=False)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert sorted(map(int, ends.read_text().split())) == list(range(60))
    tries = [number for _, number in map(str.split, begins.read_text().splitlines())]
    assert [number for number in set(tries) if tries.count(number) > 1] == there
    [folder] = (space / "logs").glob("queue-*")
    status = read_json(folder / "status.json")
    assert (status["state"], status["done"], status["total"], status["failures"]) == ("finished", 60, 60, 0)
    assert [read_json(path)["state"] for path in folder.glob("*/status.json")] == ["finished"] * 60
