"""deploy/kubernetes: what would be applied is what Kubernetes and KEDA take, is closed, and agrees with the images and knobs."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from services.inference.worker import refuse_idle_model
from services.local_redis import redis_server_binary
from shared.settings import Lane, environment_name, knobs, load_settings
from tests.conftest import PROJECT, free_port, skip_or_fail
from tests.house.keda_fields import SPECIFICATIONS
from tests.house.kustomize import Object, render
from tests.processes import eventually

DEPLOY = PROJECT / "deploy" / "kubernetes"
SCALING = PROJECT / "docs" / "scaling.md"
BUILDS = ("base", "overlays/keda", "overlays/gpu", "overlays/routed", "overlays/site-and-alerts")
KUBERNETES = ("1.31", "1.37")  # the oldest and the newest whose schema the manifests are held to
SERVICES = ("ingest", "inference", "web")
ADDED = ("publishing", "alerts")  # by components
PODS_OF = {"overlays/routed": (*SERVICES, "inference-heavy"), "overlays/site-and-alerts": (*SERVICES, *ADDED)}
IN_COMPOSE = {"publishing": "publish"}  # where it is called otherwise
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
KEDA = "keda.sh/v1alpha1"
# `kronos-live alive` ends with 5 where Redis does not answer; tests/integration/test_alive.py runs it.
WHILE_REDIS_ANSWERS = ["sh", "-c", "kronos-live alive || [ $? -eq 5 ]"]

BASE = render(DEPLOY / "base")
# Of an overlay only what it adds or changes.
OBJECTS = [
    pytest.param(one, id=f"{build}: {one['kind']} {one['metadata']['name']}")
    for build in BUILDS
    for one in render(DEPLOY / build)
    if build == "base" or one not in BASE
]
PODS = [param for param in OBJECTS if "template" in param.values[0].get("spec", {})]


def pod(one: Object) -> dict[str, Any]:
    return one["spec"]["template"]["spec"]


def container(one: Object) -> dict[str, Any]:
    [only] = pod(one)["containers"]
    return only


def password_of(one: Object) -> tuple[str, str]:
    """The secret, and its key, whose value a pod finds in the file that compose's services find Redis' password in."""
    folder, _, name = COMPOSE["web"]["environment"]["KRONOS_REDIS__PASSWORD_FILE"].rpartition("/")
    [mount] = [mount for mount in container(one)["volumeMounts"] if mount["mountPath"] == folder]
    [secret] = [volume["secret"] for volume in pod(one)["volumes"] if volume["name"] == mount["name"]]
    [item] = secret["items"]
    assert (item["path"], mount["readOnly"], oct(secret["defaultMode"])) == (name, True, "0o440")
    return secret["secretName"], item["key"]


def secrets_of(one: Object) -> set[str]:
    """The names of the secrets that a pod is given, by its environment or as files."""
    by_environment = [variable.get("valueFrom", {}).get("secretKeyRef") for variable in container(one).get("env", [])]
    as_files = [volume.get("secret") for volume in pod(one)["volumes"]]
    return {one["name"] for one in by_environment if one} | {one["secretName"] for one in as_files if one}


def named(build: str, kind: str, name: str) -> Object:
    [found] = [one for one in render(DEPLOY / build) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def kustomized(folder: Path) -> list[Object]:
    """What kubectl's kustomize prints."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("one", [param for param in OBJECTS if param.values[0]["apiVersion"] != KEDA])
def test_kubernetes_takes_it(one: Object, version: str) -> None:
    assert kubernetes_validate.validate(one, version, strict=True) == version


def test_a_field_that_kubernetes_does_not_know_would_be_noticed() -> None:
    wrong = copy.deepcopy(named("base", "Deployment", "web"))
    container(wrong)["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("one", [param for param in OBJECTS if param.values[0]["apiVersion"] == KEDA])
def test_keda_takes_it(one: Object) -> None:
    assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(one["spec"], SPECIFICATIONS[one["kind"]])


def test_kedas_part_that_is_kubernetes_own_is_taken_by_it() -> None:
    spec = named("overlays/keda", "ScaledObject", "inference")["spec"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-inference"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]},
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    assert kubernetes_validate.validate(autoscaler, KUBERNETES[-1], strict=True) == KUBERNETES[-1]


@pytest.mark.parametrize("build", BUILDS)
def test_kustomize_itself_prints_the_same(build: str) -> None:
    if shutil.which("kubectl") is None:
        skip_or_fail("kubectl", "kubectl is not on the PATH, so its kustomize cannot be compared with")

    def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
        return {(one["kind"], one["metadata"]["name"]): one for one in objects}

    assert by_name(kustomized(DEPLOY / build)) == by_name(render(DEPLOY / build))


def test_the_overlay_of_the_documentation_is_one(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        skip_or_fail("kubectl", "kubectl is not on the PATH, so nothing here knows all of kustomize")
    [written] = re.findall(r"```yaml\n# my-overlay/kustomization.yaml\n(.*?)```", SCALING.read_text(), re.DOTALL)
    shutil.copytree(DEPLOY, tmp_path / "deploy" / "kubernetes")
    (tmp_path / "my-overlay").mkdir()
    (tmp_path / "my-overlay" / "kustomization.yaml").write_text(written)
    printed = kustomized(tmp_path / "my-overlay")
    images = {container(one)["image"] for one in printed if one["kind"] == "Deployment"}
    released = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert images == {f"registry.example.org/kronos-live/{name}:{released}" for name in (*SERVICES, *ADDED)}
    [config] = [one for one in printed if one["kind"] == "ConfigMap"]
    assert config["data"]["KRONOS_DATA__SERIES"] == "ETHUSDT:1h,SOLUSDT:1h"


@pytest.mark.parametrize(
    ("build", "name", "lane"),
    [
        ("overlays/keda", "inference", "light"),
        ("overlays/routed", "inference", "light"),
        ("overlays/routed", "inference-heavy", "heavy"),
    ],
)
def test_keda_counts_the_queue_that_forecasts_wait_in_and_says_alone_how_many_workers(
    build: str, name: str, lane: Lane
) -> None:
    scaled = named(build, "ScaledObject", name)["spec"]
    workers = named(build, "Deployment", scaled["scaleTargetRef"]["name"])
    assert "replicas" not in workers["spec"]
    [trigger] = scaled["triggers"]
    assert trigger["metadata"]["listName"] == f"rq:queue:{load_settings().queue.forecasts_in(lane)}"
    service = named("overlays/keda", "Service", "redis")
    assert trigger["metadata"]["address"] == (
        f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local:{service['spec']['ports'][0]['port']}"
    )
    authentication = named("overlays/keda", "TriggerAuthentication", trigger["authenticationRef"]["name"])
    [password] = authentication["spec"]["secretTargetRef"]
    assert (password["name"], password["key"]) == password_of(named("overlays/keda", "StatefulSet", "redis"))


@pytest.mark.parametrize("one", PODS)
def test_every_pod_is_closed(one: Object) -> None:
    spec, only = pod(one), container(one)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "else variables are made up that are no knobs"
    assert {"startupProbe", "livenessProbe", "resources"} <= set(only)
    assert set(only["resources"]["limits"]) >= {"memory"} <= set(only["resources"]["requests"])
    mounted = {one["name"] for one in only["volumeMounts"]}
    claimed = {one["metadata"]["name"] for one in one["spec"].get("volumeClaimTemplates", [])}
    assert mounted == {volume["name"] for volume in spec["volumes"]} | claimed
    secrets = re.compile("(PASSWORD|TOKEN|AUTH|REPOSITORY|CHANNELS)$")
    assert all(one["valueFrom"] for one in only.get("env", []) if secrets.search(one["name"]))


@pytest.mark.parametrize("one", PODS)
def test_every_pod_finds_redis_password_in_a_file_and_a_secret_of_its_own_goes_to_it_alone(one: Object) -> None:
    assert password_of(one) == ("kronos-live", "redis-password")
    assert secrets_of(one) == {"kronos-live"} | (
        {f"kronos-live-{one['metadata']['name']}"} if one["metadata"]["name"] in ADDED else set()
    )
    assert "redis-password" not in str(container(one).get("env"))


@pytest.mark.parametrize("one", [one for one in PODS if one.values[0]["metadata"]["name"] not in ("web", "redis")])
def test_probes_ask_what_composes_healthchecks_ask(one: Object) -> None:
    only = container(one)
    asked = COMPOSE[IN_COMPOSE.get(only["name"], only["name"])]["healthcheck"]
    start, live = only["startupProbe"], only["livenessProbe"]
    assert ["CMD", *start["exec"]["command"]] == asked["test"]
    if start["exec"]["command"] == ["kronos-live", "alive"]:
        assert live["exec"]["command"] == WHILE_REDIS_ANSWERS
    else:
        assert live["exec"]["command"] == start["exec"]["command"]
    often = (f"{live['periodSeconds']}s", f"{live['timeoutSeconds']}s", live["failureThreshold"])
    assert often == (asked["interval"], asked["timeout"], asked["retries"])
    assert start["periodSeconds"] * start["failureThreshold"] >= 300, (
        "a restart may not come before a first sign of life"
    )


@pytest.mark.parametrize("one", PODS)
def test_labels_services_and_budgets_find_their_pods(one: Object) -> None:
    labels = one["spec"]["template"]["metadata"]["labels"]
    assert one["spec"]["selector"]["matchLabels"] == labels == one["metadata"]["labels"]
    name = one["metadata"]["name"]
    if name in PODS_OF["overlays/routed"]:
        budget = named("overlays/routed", "PodDisruptionBudget", name)["spec"]
        assert budget["selector"]["matchLabels"] == labels
    ports = {port["name"] for port in container(one)["ports"]}
    for service in [other for other in BASE if other["kind"] == "Service"]:
        if service["spec"]["selector"] == labels:
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    probes = [
        container(one)[probe]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe in container(one)
    ]
    assert {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe} <= ports


def test_network_policies_speak_of_pods_and_ports_that_there_are() -> None:
    pods = {one.values[0]["metadata"]["name"]: container(one.values[0]) for one in PODS}
    for policy in [one.values[0] for one in OBJECTS if one.values[0]["kind"] == "NetworkPolicy"]:
        chosen = policy["spec"]["podSelector"]
        names = set(chosen.get("matchLabels", {}).values()) | {
            value for rule in chosen.get("matchExpressions", []) for value in rule["values"]
        }
        assert names <= set(pods)
        for rule in policy["spec"].get("ingress", []):
            for name in names:
                assert {port["port"] for port in rule["ports"]} <= {port["name"] for port in pods[name]["ports"]}


@pytest.mark.parametrize("one", [param for param in PODS if container(param.values[0])["name"] != "redis"])
def test_images_users_and_ports_are_those_of_the_dockerfiles_and_knobs(one: Object) -> None:
    name, spec, only = container(one)["name"], pod(one), container(one)
    dockerfile = (PROJECT / "services" / name / "Dockerfile").read_text()
    released = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(rf"kronos-live/{name}:{re.escape(released)}(-cuda)?", only["image"])
    assert "command" not in only, "the image's own command"
    assert f"--uid {spec['securityContext']['runAsUser']} " in dockerfile
    if name == "publishing":
        assert "KRONOS_PUBLISH__FOLDER=/publish/site" in dockerfile
        assert "/publish" in {mount["mountPath"] for mount in only["volumeMounts"]}
    if name == "inference":
        assert "KRONOS_MODEL__LOCAL_DIR=/models" in dockerfile
        assert "/models" in {mount["mountPath"] for mount in only["volumeMounts"]}
        assert spec["terminationGracePeriodSeconds"] > load_settings().queue.job_timeout
    settings = load_settings()
    expected = {
        "ingest": settings.metrics.ingest_port,
        "inference": settings.metrics.worker_port,
        "web": settings.web.port,
        "publishing": settings.metrics.publish_port,
        "alerts": settings.metrics.alerts_port,
    }
    assert [port["containerPort"] for port in only["ports"]] == [expected[name]]


def test_redis_is_composes_redis() -> None:
    assert container(named("base", "StatefulSet", "redis"))["image"] == COMPOSE["redis"]["image"]


@pytest.mark.parametrize(
    ("build", "name"), [(build, name) for build in BUILDS for name in PODS_OF.get(build, SERVICES)]
)
def test_a_service_starts_with_the_variables_of_its_pod(build: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a knob, and each value is one that the knob takes."""
    variables = dict(named(build, "ConfigMap", "knobs")["data"])
    for one in container(named(build, "Deployment", name)).get("env", []):
        variables[one["name"]] = one.get("value", "a-secret")
    ours = {environment_name(section, knob) for section, knob, _ in knobs()}
    assert {variable for variable in variables if variable.startswith("KRONOS_")} <= ours
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    composes = COMPOSE["web"]["environment"]
    assert settings.redis.url.get_secret_value() == composes["KRONOS_REDIS__URL"]
    assert settings.redis.password_file == composes["KRONOS_REDIS__PASSWORD_FILE"]
    assert settings.metrics.enabled
    on_gpu = {("overlays/gpu", "inference"), ("overlays/routed", "inference-heavy")}
    assert (settings.model.device == "cuda") == ((build, name) in on_gpu)
    assert (settings.publish.enabled and settings.publish.git.push) == (name == "publishing")
    assert settings.alerts.enabled == (name == "alerts")
    if name == "alerts":
        folder, _, key = settings.alerts.channel_file.rpartition("/")
        assert {"name": "channels", "mountPath": folder, "readOnly": True} in container(
            named(build, "Deployment", name)
        )["volumeMounts"]
        assert f"--from-file={key}=" in (DEPLOY / "components/alerts/kustomization.yaml").read_text()
    if name.startswith("inference"):
        refuse_idle_model(settings)
        lanes = {"inference": ("light",), "inference-heavy": ("heavy",)} if build == "overlays/routed" else {}
        assert settings.worker.serves == lanes.get(name, ("light", "heavy"))


def test_redis_started_as_the_manifest_says_asks_for_the_password_of_the_secret(tmp_path: Path) -> None:
    (tmp_path / "redis-server").symlink_to(redis_server_binary())
    (tmp_path / "redis-password").write_text("a-secret")
    command, port = container(named("base", "StatefulSet", "redis"))["command"], free_port()
    here, places = re.subn(r"(?<= )/(secrets|tmp)/", f"{tmp_path}/", command[-1])
    assert places == 3, "it reads the secret's file, and writes and reads one of its own"
    script = here.replace("--dir /data ", f"--dir {tmp_path} --port {port} --bind 127.0.0.1 ")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MAXMEMORY": "100mb"}
    server = subprocess.Popen([*command[:-1], script], env=environment, stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, password="a-secret") as client, Redis(port=port) as nobody:  # noqa: S106
            eventually(lambda: _answers(client), 20)
            assert client.config_get("maxmemory") == {"maxmemory": "104857600"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            with pytest.raises(AuthenticationError):
                nobody.ping()
    finally:
        server.terminate()
        assert server.wait(timeout=10) == 0, "it is the shell's successor, so a signal reaches it"


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
