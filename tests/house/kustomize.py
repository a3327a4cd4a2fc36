"""What of kustomize deploy/kubernetes uses: lists of files, components, one namespace for all, and JSON patches (RFC 6902).

So the manifests can be tested where there is no kustomize; where there is one, a test compares. Whatever else a
kustomization asks for is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
NOT_IN_A_NAMESPACE = {"Namespace"}


def render(folder: Path) -> list[Object]:
    """The objects that `kubectl kustomize FOLDER` prints, in the order in which the files are named."""
    wanted = _read(folder, "Kustomization", {"namespace", "resources", "components", "patches"})
    objects = [one for name in wanted["resources"] for one in _resource(folder / name)]
    objects += [one for name in wanted.get("components", []) for one in _component(folder / name)]
    for patch in wanted.get("patches", []):
        target, changes = patch["target"], yaml.safe_load(patch["patch"])
        chosen = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
        if set(patch) != {"target", "patch"} or set(target) != {"kind", "name"} or not chosen:
            raise ValueError(f"{folder}: no object is meant by the patch of {target}, or it is of another form")
        for one in chosen:
            for change in changes:
                _apply(one, change)
    for one in objects:
        if one["kind"] not in NOT_IN_A_NAMESPACE:
            one["metadata"]["namespace"] = wanted["namespace"]
    return objects


def _read(folder: Path, kind: str, known: set[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(wanted) - known - {"apiVersion", "kind"}
    if wanted["kind"] != kind or unknown:
        raise ValueError(
            f"{folder}: this reader of kustomizations wants a {kind} here and does not know {sorted(unknown)}"
        )
    return wanted


def _component(folder: Path) -> list[Object]:
    """What a component adds; ours change nothing."""
    return [one for name in _read(folder, "Component", {"resources"})["resources"] for one in _resource(folder / name)]


def _resource(path: Path) -> list[Object]:
    return render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _apply(target: Object, change: dict[str, Any]) -> None:
    """One operation of a JSON patch, in place."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]]
    inside: Any = target
    for part in way:
        inside = inside[int(part)] if isinstance(inside, list) else inside[part]
    how = change["op"]
    if how == "add" and isinstance(inside, list) and last == "-":
        inside.append(change["value"])
    elif isinstance(inside, dict) and (how == "add" or (how == "replace" and last in inside)):
        inside[last] = change["value"]
    elif isinstance(inside, dict) and how == "remove" and last in inside:
        del inside[last]
    else:
        raise ValueError(f"cannot {how} {change['path']}")
