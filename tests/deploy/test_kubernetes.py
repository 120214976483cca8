"""`conf/kubernetes/`, held against Kubernetes' own schemas and against what the program does."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from pushserver.config import Settings
from pushserver.web.admin.listener import ROUTES
from tests.deploy.dockerfile import stages
from tests.deploy.settings_in_use import CONF, EXAMPLES, REPOSITORY, image_environ, loaded, secret_settings

FOLDER = CONF / "kubernetes"
FILES = [*sorted(FOLDER.glob("*.yaml")), FOLDER / "secret.yaml.example"]
VERSIONS = ("1.30", "1.37")
"""The oldest and the newest Kubernetes it is held against."""

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    return [it for file in FILES for it in yaml.safe_load_all(file.read_text()) if it]


def one(kind: str, name: str) -> Manifest:
    (found,) = (it for it in manifests() if (it["kind"], it["metadata"]["name"]) == (kind, name))
    return found


WORKLOADS = ["pushserver", "pushserver-consumer"]


def pod(workload: str) -> Manifest:
    """The template of a workload's pods."""
    spec: Manifest = one("Deployment", workload)["spec"]["template"]["spec"]
    return spec


def container(workload: str) -> Manifest:
    (only,) = pod(workload)["containers"]
    return dict(only)


def settings(workload: str) -> Settings:
    """What its container starts with, on a cluster where the Secret is filled in."""
    environ = {**one("ConfigMap", "pushserver")["data"], **EXAMPLES}
    environ |= {
        it["name"]: it.get("value", "pushserver-5d9f-x2x") for it in container(workload).get("env", ())
    }
    return loaded(environ)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_kubernetes_takes_it(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_its_settings_stop_no_start(workload: str) -> None:
    assert not settings(workload).development


def test_the_secret_names_what_has_to_be_brought_and_holds_nothing() -> None:
    secret = one("Secret", "pushserver")["stringData"]
    assert secret.keys() == EXAMPLES.keys()
    assert set(secret.values()) == {""}


def test_no_secret_is_anywhere_else() -> None:
    plain = {name for it in manifests() if it["kind"] == "ConfigMap" for name in it["data"]}
    plain |= {it["name"] for workload in WORKLOADS for it in container(workload).get("env", ())}
    assert not plain & secret_settings()


def test_what_is_applied_with_the_folder_holds_no_secret() -> None:
    """`kubectl apply -f conf/kubernetes/` takes .yaml, .yml and .json: it must not empty the real Secret."""
    applied = [file for file in FOLDER.iterdir() if file.suffix in {".yaml", ".yml", ".json"}]
    assert not any("kind: Secret" in file.read_text() for file in applied)


def seconds_of_stop(workload: str) -> int:
    """How long it only waits before it is told to stop."""
    lifecycle = container(workload).get("lifecycle")
    return int(lifecycle["preStop"]["exec"]["command"][1]) if lifecycle else 0


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_grace_is_longer_than_what_happens_in_it(workload: str) -> None:
    grace = pod(workload)["terminationGracePeriodSeconds"]
    assert grace >= seconds_of_stop(workload) + settings(workload).drain.timeout_s + 5


def test_endpoints_go_before_the_drain_begins() -> None:
    assert seconds_of_stop("pushserver") >= 5


def ports(workload: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(workload)["ports"]}


def test_ports_are_where_the_program_listens() -> None:
    pods, consumer = settings("pushserver"), settings("pushserver-consumer")
    assert ports("pushserver") == {"public": pods.server.port, "admin": pods.admin.port}
    assert ports("pushserver-consumer") == {"consumer": consumer.consume.port}
    # Where the probes of another host's kubelet reach it.
    assert {pods.server.host, pods.admin.host, consumer.consume.host} == {"0.0.0.0"}
    assert pods.admin.api_keys


@pytest.mark.parametrize("workload, port", [("pushserver", "admin"), ("pushserver-consumer", "consumer")])
def test_probes_ask_for_what_is_there(workload: str, port: str) -> None:
    """That these paths ask for no key is shown where the listeners are tested."""
    asked = {
        kind: container(workload)[kind]["httpGet"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {probe["port"] for probe in asked.values()} == {port}
    assert {probe["path"] for probe in asked.values()} <= ROUTES.keys()
    # Without Redis a pod is not ready, and must not be killed for it.
    assert {asked["startupProbe"]["path"], asked["livenessProbe"]["path"]} == {"/healthz"}
    assert asked["readinessProbe"]["path"] == "/readyz"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_containers_have_no_more_rights_than_they_need(workload: str) -> None:
    assert pod(workload)["securityContext"]["runAsNonRoot"]
    assert not pod(workload)["automountServiceAccountToken"]
    allowed = container(workload)["securityContext"]
    assert allowed["readOnlyRootFilesystem"]
    assert not allowed["allowPrivilegeEscalation"]
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert [mount["mountPath"] for mount in container(workload)["volumeMounts"]] == ["/tmp"]


def test_a_pod_is_known_by_the_name_that_operators_see() -> None:
    (name,) = container("pushserver")["env"]
    assert name["name"] == "PUSHSERVER_POD__NAME"
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_everybody_selects_the_pods_and_ports_that_there_are() -> None:
    labels = {name: one("Deployment", name)["spec"]["template"]["metadata"]["labels"] for name in WORKLOADS}
    for it in manifests():
        spec = it.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector)
        if wanted:
            assert wanted in labels.values(), it["metadata"]["name"]
    for service in ("pushserver", "pushserver-admin"):
        assert {port["targetPort"] for port in one("Service", service)["spec"]["ports"]} <= ports(
            "pushserver"
        ).keys()
    (rule,) = one("Ingress", "pushserver")["spec"]["rules"]
    public = {it["name"] for it in one("Service", "pushserver")["spec"]["ports"]}
    paths = rule["http"]["paths"]
    assert {it["path"] for it in paths} == {"/ws", "/pushserver.js"}
    assert {it["backend"]["service"]["port"]["name"] for it in paths} <= public


def test_the_admin_port_is_open_to_few() -> None:
    rules = one("NetworkPolicy", "pushserver")["spec"]["ingress"]
    open_to_all = {port["port"] for rule in rules if "from" not in rule for port in rule["ports"]}
    assert open_to_all == {"public"}
    assert not any(it["kind"] == "Ingress" and "admin" in str(it["spec"]) for it in manifests())


def test_the_proxy_waits_longer_than_a_silent_client_is_given() -> None:
    notes = one("Ingress", "pushserver")["metadata"]["annotations"]
    delivery = settings("pushserver").delivery
    waits = int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert waits > delivery.ping_interval_s + delivery.ping_timeout_s


def test_the_image_is_the_one_of_this_version() -> None:
    label = stages((REPOSITORY / "Dockerfile").read_text())[-1].pairs("LABEL")
    version = label["org.opencontainers.image.version"]
    assert {container(workload)["image"].rpartition(":")[2] for workload in WORKLOADS} == {version}
    assert image_environ()["PUSHSERVER_POD__PRODUCTION"] == "true"
