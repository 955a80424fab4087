"""The recipes of deploy/: valid, and run as the document shows them, up to the merged fleet."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store

# the scripts make environments and whole runs
pytestmark = pytest.mark.faults

if TYPE_CHECKING:
    from tests.deploy.conftest import Site

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("deploy/**/*.sh"), *ROOT.glob("deploy/**/*.sbatch")])
LATEST = kubernetes_validate.latest_version()
MANIFESTS = sorted(ROOT.glob("deploy/**/*.yaml"))


def name_of(path: Path) -> str:
    return path.name


def hosts_in(fleet: Path) -> set[str]:
    with connect(Fleet(open_store(str(fleet)))) as connection:
        return {host for (host,) in connection.execute("SELECT host FROM runs").fetchall()}


def documented(title: str) -> str:
    """Return the commands that docs/deploy.md shows under ``title``."""
    text = (ROOT / "docs/deploy.md").read_text()
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_scripts_are_whole_and_without_a_finding(script: Path) -> None:
    shellcheck = str(Path(sys.executable).parent / "shellcheck")
    for checker in (["bash", "-n"], [shellcheck, "--severity", "style"]):
        done = subprocess.run([*checker, str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.31", LATEST])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_manifests_are_what_kubernetes_takes(manifest: Path, version: str) -> None:
    for document in yaml.safe_load_all(manifest.read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_manifest_with_a_wrong_key_would_be_seen() -> None:
    document = yaml.safe_load((ROOT / "deploy/kubernetes/measure.yaml").read_text())
    document["spec"]["completionMod"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.31", strict=True)


def jobs() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in MANIFESTS]
    return [document for document in documents if document["kind"] == "Job"]


def test_pods_have_no_privileges_and_are_not_repeated() -> None:
    assert {job["metadata"]["name"] for job in jobs()} == {"roofprobe-measure", "roofprobe-merge"}
    for job in jobs():
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {"hostNetwork", "hostPID", "hostIPC"} & set(pod) == set()
        assert all("hostPath" not in volume for volume in pod["volumes"])
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert 0 in (job["spec"].get("backoffLimit"), job["spec"].get("backoffLimitPerIndex"))


def test_measuring_pods_are_one_a_node_and_a_failed_one_ends_no_other() -> None:
    (job,) = (each for each in jobs() if each["metadata"]["name"] == "roofprobe-measure")
    spec = job["spec"]
    assert (spec["completionMode"], spec["backoffLimitPerIndex"]) == ("Indexed", 0)
    assert "backoffLimit" not in spec
    assert spec["completions"] == spec["parallelism"] == spec["maxFailedIndexes"]
    (term,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_ssh_as_documented_ends_in_a_fleet(site: Site) -> None:
    (site.folder / "hosts.txt").write_text("gpu-1\n# not yet: gpu-9\ngpu-2   # new\n\n")
    done = site.run(documented("ssh"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.status("reports") == {"gpu-1": ("finished", ""), "gpu-2": ("finished", "")}
    assert hosts_in(site.folder / "fleet") == {"gpu-1", "gpu-2"}
    assert list((site.folder / "reports").glob("gpu-1/*/run.json"))


def test_ssh_tells_of_each_host_what_is_wrong_with_it(site: Site) -> None:
    hosts = ("fine-1", "unreachable", "broken", "half", "empty", "failing", "slow", "fine-1")
    (site.folder / "hosts").joinpath("list").write_text("\n".join(hosts))
    done = site.run("deploy/ssh/fleet.sh hosts/list out fleet", LIMIT="5", PARALLEL="8")
    assert site.status("out") == {
        "fine-1": ("finished", ""),
        "unreachable": ("unknown", "ssh could not reach it"),
        "broken": ("unknown", "exit code 9"),
        "half": ("unknown", "its run is incomplete"),
        "empty": ("unknown", "it sent no run"),
        "failing": ("failed", "its verdict is fail"),
        "slow": ("unknown", "it took too long"),
    }
    assert done.returncode == 1
    assert (site.folder / "out/slow/half/journal.jsonl").exists()
    assert "no route to unreachable" in (site.folder / "out/unreachable.log").read_text()
    assert sorted((site.hosts / "ssh.log").read_text().split()) == sorted(set(hosts))


@pytest.mark.parametrize(
    ("hosts", "code"),
    [("fine-1", 0), ("fine-1\nbroken", 3), ("failing\nbroken", 1), ("# none", 2),
     ("-oProxyCommand=x", 2), ("../../etc", 2), ("a/b", 2), ("a;b", 2)],
)  # fmt: skip
def test_ssh_exits_with_the_worst(hosts: str, code: int, site: Site) -> None:
    (site.folder / "list").write_text(f"{hosts}\n")
    done = site.run("deploy/ssh/fleet.sh list out fleet")
    assert done.returncode == code, done.stderr


def test_ssh_without_arguments_tells_how_it_is_used(site: Site) -> None:
    done = site.run("deploy/ssh/fleet.sh hosts")
    assert done.returncode == 2
    assert "deploy/ssh/fleet.sh HOSTS OUT FLEET" in done.stderr
    assert "set -uo" not in done.stderr


def test_ssh_installs_into_the_users_own_folder(site: Site) -> None:
    (site.folder / "list").write_text("gpu-1\n")
    path = f"{ROOT / 'src'}:{sysconfig.get_path('purelib')}"
    # pip finds roofprobe there already, as it would find an image's torch; nothing is downloaded.
    command = "deploy/ssh/fleet.sh list out fleet --tier quick --time-budget 1s --device cpu"
    done = site.run(command, INSTALL="roofprobe", PYTHONPATH=path, PIP_NO_INDEX="1")
    assert done.returncode == 0, (site.folder / "out/gpu-1.log").read_text()
    assert (site.hosts / "gpu-1/.cache/roofprobe/venv/bin/python").exists()
    assert list((site.folder / "out").glob("gpu-1/*/run.json"))


def test_slurm_as_documented_ends_in_a_fleet(site: Site) -> None:
    done = site.run(documented("Slurm"))
    assert done.returncode == 0, done.stdout + done.stderr
    out = "roofprobe-17"
    assert site.status(out) == {"gpu-1": ("finished", ""), "gpu-2": ("finished", "")}
    assert hosts_in(site.folder / f"{out}-fleet") == {"gpu-1", "gpu-2"}
    assert "--ntasks-per-node=1" in (site.hosts / "srun.log").read_text().split()


def test_slurm_tells_of_each_node_what_is_wrong_with_it(site: Site) -> None:
    nodes = "fine-1,broken,half,failing,slow,down"
    done = site.run("sbatch deploy/slurm/fleet.sbatch", NODES=nodes, LIMIT="5", OUT="out")
    assert site.status("out") == {
        "fine-1": ("finished", ""),
        "broken": ("unknown", "exit code 9"),
        "half": ("unknown", "its run is incomplete"),
        "failing": ("failed", "its verdict is fail"),
        "slow": ("unknown", "it took too long"),
        "down": ("unknown", "nothing came of it"),
    }
    assert done.returncode == 1


def test_mpi_as_documented_ends_in_a_fleet(site: Site) -> None:
    done = site.run(documented("MPI"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert hosts_in(site.folder / "fleet") == {"gpu-1", "gpu-2"}


def test_kubectls_commands_apply_what_is_valid(site: Site) -> None:
    done = site.run(f"set -e\n{documented('Kubernetes')}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_pods_run_ends_in_a_fleet(site: Site) -> None:
    for job, hosts in zip(jobs(), (("gpu-1", "gpu-2"), ("merging",)), strict=True):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        told = {each["name"]: each.get("value", "") for each in container["env"]}
        for host in hosts:
            folders = {name: str(site.folder / name.lower()) for name in ("RESULTS", "SCRATCH")}
            environment = {**site.environment, **told, **folders, "INSTALL": "",
                           "ROOFPROBE_HOST": host, "HOME": str(site.folder)}  # fmt: skip
            done = subprocess.run(
                [*container["command"], *container["args"]], env=environment, cwd="/",
                capture_output=True, text=True, timeout=400,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    assert hosts_in(site.folder / "results/fleet") == {"gpu-1", "gpu-2"}
