"""Stand-ins for ssh, Slurm, MPI and kubectl: they run the command on this host, a folder per host.

``probe`` stands in the PATH as this checkout's, for short runs; hosts whose names say so misbehave.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The real command on this processor, unless the host is to misbehave or nothing real is asked for.
PROBE = """\
case "$ROOFPROBE_HOST" in
    broken) echo "probe: it is broken" >&2; exit 9 ;;
    slow) mkdir -p "$3/half" && echo '{' >"$3/half/journal.jsonl"; exec sleep 60 ;;
    failing) mkdir -p "$3/run" && echo '{}' >"$3/run/run.json"; exit 1 ;;
    half) mkdir -p "$3/run" && echo '{}' >"$3/run/run.json"; exit 3 ;;
    empty) exit 0 ;;
    fine*) mkdir -p "$3/run" && echo '{}' >"$3/run/run.json"; exit 0 ;;
esac
if [ "$1" = all ]; then
    set -- "$@" --tier quick --time-budget 1s --device cpu
fi
exec "$PYTHON" -m roofprobe "$@"
"""
# Runs what it is told as sshd does, by a shell in the user's home on that host.
SSH = """\
while [ $# -gt 0 ]; do case "$1" in -o) shift 2 ;; -*) exit 99 ;; *) break ;; esac; done
host=$1; shift
echo "$host" >>"$HOSTS/ssh.log"
[ "$host" != unreachable ] || { echo "ssh: no route to $host" >&2; exit 255; }
mkdir -p "$HOSTS/$host" && cd "$HOSTS/$host" && HOME=$PWD exec sh -c "$*"
"""
# A task on each node, side by side; `down` never starts one. Ends with the highest exit code.
SRUN = """\
while [ "${1#-}" != "$1" ]; do echo "$1" >>"$HOSTS/srun.log"; shift; done
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    [ "$node" = down ] || (SLURMD_NODENAME=$node exec "$@") &
done
wait
"""
SCONTROL = """\
[ "$1 $2" = "show hostnames" ] || exit 99
echo "$3" | tr , '\\n'
"""
# Slurm runs a copy of the script, so that nothing beside it is found.
SBATCH = """\
nodes=${NODES:-gpu-1,gpu-2}
while [ "${1#-}" != "$1" ]; do shift; done
script=$(mktemp -d)/slurm_script && cp "$1" "$script" && shift
SLURM_JOB_ID=17 SLURM_JOB_NODELIST=$nodes exec bash "$script" "$@"
"""
MPIRUN = """\
[ "$1 $2" = "--map-by ppr:1:node" ] || exit 99
shift 2
for host in gpu-1 gpu-2; do (FAKE_HOSTNAME=$host exec "$@") & done
wait
"""
HOSTNAME = 'echo "${FAKE_HOSTNAME:-here}"\n'
# What is applied has to be valid; what is waited for or asked has to have been applied.
KUBECTL = """\
case "$1" in
    apply) kubernetes-validate --strict --quiet "$3" && cat "$3" >>"$HOSTS/applied" ;;
    wait) grep -q "name: ${4#job/}" "$HOSTS/applied" ;;
    get) grep -q "name: $3" "$HOSTS/applied" && echo "2 succeeded, failed: " ;;
    *) exit 99 ;;
esac
"""
STAND_INS = {
    "probe": PROBE, "ssh": SSH, "srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH,
    "mpirun": MPIRUN, "hostname": HOSTNAME, "kubectl": KUBECTL,
}  # fmt: skip


class Site:
    """A folder with the recipes in it, and a PATH with the stand-ins before everything else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = folder / "hosts"
        self.hosts.mkdir()
        (folder / "deploy").symlink_to(ROOT / "deploy")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in STAND_INS.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}")
            (programs / name).chmod(0o755)
        scripts = Path(sys.executable).parent
        self.environment = {
            **os.environ, "PATH": f"{programs}:{scripts}:{os.environ['PATH']}",
            "HOSTS": str(self.hosts), "PYTHON": sys.executable, "INSTALL": "",
        }  # fmt: skip

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in the folder."""
        return subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env={**self.environment, **environment},
            capture_output=True, text=True, timeout=400,
        )  # fmt: skip

    def status(self, out: str) -> dict[str, tuple[str, str]]:
        """Return what ``status.tsv`` says of each host."""
        lines = (self.folder / out / "status.tsv").read_text().splitlines()
        rows = [line.split("\t") for line in lines]
        assert len({host for host, *_ in rows}) == len(rows)
        return {host: (state, why) for host, state, why in rows}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Give a place where the recipes can be run as they are documented."""
    return Site(tmp_path)
