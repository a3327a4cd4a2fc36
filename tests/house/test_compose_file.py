"""What docker-compose.yml promises of every container, those included whose images no test can run."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENDS = {"prepare"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "prepare" else [])
    assert service["pids_limit"] > 0
    assert re.search(r"\d[mg](}|$)", service["mem_limit"])
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert not {"privileged", "network_mode"} & set(service) or (name, service["network_mode"]) == ("prepare", "none")


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ENDS))
def test_every_container_that_stays_is_looked_after_and_may_end_in_peace(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert re.fullmatch(r"\d+[sm]", service["stop_grace_period"])


def test_only_pages_are_published_and_on_loopback_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"web", "prometheus", "grafana"}
    for ports in published.values():
        assert all(re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port) for port in ports)


def test_images_of_others_are_of_a_version_that_is_named() -> None:
    images = {service["image"] for service in SERVICES.values() if "image" in service}
    assert all(re.search(r":v?\d", image) for image in images), images


def test_prometheus_asks_where_the_containers_tell() -> None:
    told = yaml.safe_load((PROJECT / "monitoring" / "prometheus.yml").read_text())
    asked = {
        f"{config['names'][0]}:{config['port']}"
        for job in told["scrape_configs"]
        for config in job.get("dns_sd_configs", [])
    }
    ports = {
        "ingest": "KRONOS_METRICS__INGEST_PORT",
        "inference": "KRONOS_METRICS__WORKER_PORT",
        "publish": "KRONOS_METRICS__PUBLISH_PORT",
        "alerts": "KRONOS_METRICS__ALERTS_PORT",
    }
    assert asked == {f"{name}:{SERVICES[name]['environment'][knob]}" for name, knob in ports.items()}
    assert {SERVICES[name]["environment"]["KRONOS_METRICS__HOST"] for name in ports} == {"0.0.0.0"}  # noqa: S104


def test_the_channels_of_alerts_which_carry_secrets_are_given_to_one_container_alone() -> None:
    assert [name for name, one in SERVICES.items() if "KRONOS_ALERTS__CHANNELS" in one.get("environment", {})] == [
        "alerts"
    ]


def test_the_gpu_is_added_to_workers_alone() -> None:
    added = yaml.safe_load((PROJECT / "docker-compose.gpu.yml").read_text())["services"]
    [device] = added["inference"]["deploy"]["resources"]["reservations"]["devices"]
    assert (set(added), device["driver"], device["capabilities"]) == ({"inference"}, "nvidia", ["gpu"])


def test_what_compose_alone_reads_is_explained_in_the_readme() -> None:
    text, readme = (PROJECT / "docker-compose.yml").read_text(), (PROJECT / "README.md").read_text()
    for variable in set(re.findall(r"KRONOS_COMPOSE_\w+", text)):
        short = re.sub(r"KRONOS_COMPOSE_[A-Z]+_(MEMORY|CPUS)", r"_\1`", variable)
        assert variable in readme or short in readme, variable
