"""What we use of Ray that it does not document: variables, keys, and texts of errors."""

import inspect
import os
import re

import pytest
import ray
from ray._common.usage import usage_constants
from ray._private import ray_constants, serialization
from ray._private.accelerators import RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO_ENV_VAR
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.air._internal.util import skip_exceptions
from ray.air.constants import AIR_ENV_VARS
from ray.air.execution._internal import actor_manager
from ray.tune.constants import TUNE_ENV_VARS

from data import ray_session
from study.cluster import ray_runtime


def test_ray_reads_the_environment_that_is_set_for_it():
    """``ray_runtime.QUIET`` and ``is_inside_job``, and the variables in study/submit.py and the recipes."""
    from ray.dashboard.modules.job.job_supervisor import JobSupervisor
    from ray.scripts import symmetric_run

    known = {*TUNE_ENV_VARS, *AIR_ENV_VARS, usage_constants.USAGE_STATS_ENABLED_ENV_VAR}
    assert set(ray_runtime.QUIET) <= known | {RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO_ENV_VAR}
    assert RAY_JOB_CONFIG_JSON_ENV_VAR in inspect.getsource(ray_session.is_inside_job)
    assert ray_constants.RAY_API_SERVER_ADDRESS_ENVIRONMENT_VARIABLE == "RAY_API_SERVER_ADDRESS"
    assert "RAY_JOB_STOP_WAIT_TIME_S" in inspect.getsource(JobSupervisor)
    assert "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" in inspect.getsource(symmetric_run)


def test_a_client_of_jobs_without_its_packages_says_so(monkeypatch):
    """``submit.connect`` looks for ``ray[default]`` in the error."""
    from ray.dashboard.modules.job import sdk

    monkeypatch.setattr(sdk, "requests", None)  # as its own import leaves it
    with pytest.raises(RuntimeError, match=re.escape("ray[default]")):
        sdk.JobSubmissionClient("http://127.0.0.1:1")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_job_that_the_server_does_not_know_does_not_exist():
    """``submit.follow`` looks for ``does not exist``; here the server's source, since a server takes half a minute."""
    from ray.dashboard.modules.job.job_head import JobHead

    assert 'f"Job {job_or_submission_id} does not exist"' in inspect.getsource(JobHead.get_job_info)


@pytest.mark.ray
def test_the_rows_of_nodes_have_the_keys_that_are_read(ray_cluster):
    """``ray_runtime.alive``, study/cluster/preflight.py, ``places._resources``."""
    (node,) = ray.nodes()
    assert node["Alive"] is True and node["NodeID"] and node["NodeManagerHostname"] and node["NodeManagerAddress"]
    assert node["Resources"]["CPU"] == 2 and node["Resources"]["object_store_memory"] > 0
    assert "GPU" not in node["Resources"]


@pytest.mark.ray
def test_the_error_of_a_task_has_its_cause(ray_cluster):
    """``store.result_of``."""

    def refuse():
        raise ValueError("value and remedy")

    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(ray.remote(refuse).remote())
    assert isinstance(caught.value.cause, ValueError) and str(caught.value.cause) == "value and remedy"


@pytest.mark.ray
def test_a_dead_actor_is_known_with_its_node(ray_cluster):
    """``lost_workers._node``; nodes that are gone, on a cluster, are in test_lost_workers_on_ray.py."""

    class Victim:
        def end(self):
            os._exit(1)

    victim = ray.remote(Victim).remote()
    with pytest.raises(ray.exceptions.ActorDiedError, match="its worker process has died") as caught:
        ray.get(victim.end.remote())
    known = ray._private.state.actors(caught.value.actor_id)
    assert known["Address"]["NodeID"] == ray.nodes()[0]["NodeID"]
    assert ray._private.state.actors("f" * len(caught.value.actor_id)) == {}


def test_tune_stops_all_trials_at_an_error_that_is_no_actors_and_no_tasks():
    """``lost_workers.survive_memory_kills``: the name that it replaces, and why it does."""
    assert "return OutOfMemoryError(error_info.error_message)" in inspect.getsource(serialization)
    assert not issubclass(ray.exceptions.OutOfMemoryError, ray.exceptions.RayActorError | ray.exceptions.RayTaskError)
    unexpected = inspect.getsource(actor_manager.RayActorManager._actor_task_failed)
    assert "isinstance(exception, RayActorError)" in unexpected and "raise RuntimeError" in unexpected


def test_tune_follows_the_causes_of_what_a_trial_raises():
    """``Crew.report`` raises no error from itself, and its notes are for people who read Ray's logs."""
    error = RuntimeError("connection closed")
    error.__cause__ = error
    with pytest.raises(RecursionError):
        skip_exceptions(error)


def test_a_start_of_ray_looks_up_what_is_replaced():
    """``ray_session._own`` and ``_of_others``: the names, and that Ray reads them when it starts."""
    from ray._private import node, parameter, services, worker

    assert ray_constants.ENABLE_RAY_CLUSTER is True and ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is True
    assert "ray_constants.ENABLE_RAY_CLUSTER" in inspect.getsource(services.get_node_ip_address)
    assert "ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV" in inspect.getsource(worker)
    assert "ray._private.utils.set_sigterm_handler(" in inspect.getsource(node.Node)
    assert "\n    connect(\n" in inspect.getsource(worker.init)
    assert "target=listen_error_messages,\n" in inspect.getsource(worker.connect)
    assert list(inspect.signature(worker.listen_error_messages).parameters) == ["worker", "threads_stopped"]
    assert "ray._private.parameter.RayParams(" in inspect.getsource(worker.init)
    left_out = {"include_log_monitor", "no_monitor"}
    assert {*left_out, *ray_session.AGENTS} <= set(inspect.signature(parameter.RayParams).parameters)
    assert "_webui_url, process_info = ray._private.services.start_api_server(" in inspect.getsource(node.Node)
    assert "process = ConsolePopen(" in inspect.getsource(services.start_ray_process)
    assert "ray._private.services.get_node(" in inspect.getsource(node.Node.__init__)
    assert "--raylet_socket_name={" in inspect.getsource(services.start_raylet)
    assert "--plasma_directory={" in inspect.getsource(services.start_raylet)


def test_errors_of_ray_have_these_names():
    """ray_runtime, submit, crew and trainable catch them."""
    names = ("AuthenticationError", "RayError", "RayTaskError", "RayActorError", "GetTimeoutError")
    assert all(issubclass(getattr(ray.exceptions, name), ray.exceptions.RayError) for name in names)
