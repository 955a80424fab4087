#!/bin/sh
# Make VENV and install roofprobe into it, with the given extras: make-venv.sh VENV [test[,dev]]
# A torch that the machine already has is reused (cloud images bring one that fits their driver);
# otherwise the one in constraints.txt is installed. PYTHON names the interpreter.
set -eu
venv=$1
extras=${2:+[$2]}
python=${PYTHON:-python3}

"$python" - <<'EOT' || { echo "roofprobe needs Python 3.11 or newer: set PYTHON=…" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
EOT

# The folder of a usable torch (2.6 or newer) outside of the new environment, or nothing.
host_torch=$("$python" - <<'EOT' 2>/dev/null || true
import pathlib, torch
major, minor = (int(part) for part in torch.__version__.split(".")[:2])
if (major, minor) >= (2, 6):
    print(pathlib.Path(torch.__file__).resolve().parent.parent)
EOT
)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "cannot make $venv: install the system's python3-venv package" >&2
    exit 1
}
constraints="-c constraints.txt"
if [ -n "$host_torch" ]; then
    echo "using the torch in $host_torch" >&2
    "$venv/bin/python" - "$host_torch" <<'EOT'
import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "host-torch.pth").write_text(sys.argv[1] + "\n")
EOT
    constraints=""
fi
# shellcheck disable=SC2086 # constraints is two words or none
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check $constraints -e ".$extras"
