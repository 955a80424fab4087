#!/usr/bin/env bash
# Measure every host of a list over ssh, fetch each run into a folder per host, and merge them.
#
#   deploy/ssh/fleet.sh HOSTS OUT FLEET [options of `probe all`]
#
# HOSTS lists what ssh connects to, one a line (# begins a comment). Settings, by environment:
#   PARALLEL=32          hosts at once
#   LIMIT=3600           seconds that a host may take
#   INSTALL=roofprobe    what pip installs into ~/.cache/roofprobe/venv of each host, beside a torch
#                        that its Python has already; empty: `probe` is in the PATH there
#   SSH_OPTIONS          more options of ssh, as words
#
# OUT/status.tsv says of each host: finished, failed (its verdict) or unknown, and why. Exits with
# 1 when a verdict is fail, 3 when a host is unknown, 2 when called wrongly.
set -uo pipefail

# What a host does: its run comes back as an archive, whatever the exit code. It is read from
# standard input as a whole before it begins.
read -r -d '' on_host <<'EOT'
{
set -u
host=$1 install=$2 limit=$3
shift 3
scratch=$(mktemp -d) && mkdir "$scratch/out" || exit 90
trap 'rm -rf "$scratch"' EXIT
run=(probe)
if [ -n "$install" ]; then
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/roofprobe/venv
    run=("$venv/bin/python" -m roofprobe)
    { [ -x "$venv/bin/python" ] || python3 -m venv --system-site-packages "$venv"; } >&2 &&
        "$venv/bin/python" -m pip install --quiet "$install" >&2 || exit 91
fi
ROOFPROBE_HOST=$host timeout -k 30 "$limit" \
    "${run[@]}" all --out "$scratch/out" --quiet "$@" >&2
code=$?
tar -C "$scratch" --exclude=latest --exclude='.*' -cz out || exit 92
exit "$code"
} </dev/null
EOT

# Measure one host into OUT/<host>; its line of the status goes to standard output.
one() {
    local out=$1 host=$2 code state=unknown why archive
    shift 2
    archive=$(mktemp "$out/.archive-XXXXXX") || exit 2
    # BatchMode: ask for no password, which nobody is there to type.
    # shellcheck disable=SC2086 # SSH_OPTIONS is words
    timeout -k 30 $((LIMIT + 600)) ssh -o BatchMode=yes -o ConnectTimeout=15 ${SSH_OPTIONS:-} \
        "$host" "bash -s -- $(printf '%q ' "$@")" \
        <<<"$on_host" >"$archive" 2>"$out/$host.log"
    code=$?
    case $code in
        0) state=finished why= ;;
        1) state=failed why="its verdict is fail" ;;
        3) why="its run is incomplete" ;;
        91) why="roofprobe could not be installed" ;;
        124 | 137) why="it took too long" ;;
        255) why="ssh could not reach it" ;;
        *) why="exit code $code" ;;
    esac
    mkdir -p "$out/$host"
    tar -xzf "$archive" -C "$out/$host" --strip-components=1 2>>"$out/$host.log"
    [ "$state" = unknown ] || [ -n "$(find "$out/$host" -name run.json)" ] ||
        { state=unknown why="it sent no run"; }
    rm -f "$archive"
    printf '%s\t%s\t%s\n' "$host" "$state" "$why"
}

if [ "${1:-}" = --one ]; then
    shift
    one "$@"
    exit
fi
[ $# -ge 3 ] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
hosts=$1 out=$2 fleet=$3
shift 3
export PARALLEL=${PARALLEL:-32} LIMIT=${LIMIT:-3600} INSTALL=${INSTALL-roofprobe}
mkdir -p "$out" || exit 2
list=$(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$hosts" | sort -u) || exit 2
[ -n "$list" ] || { echo "$hosts names no host" >&2; exit 2; }
# A name begins with a letter or a digit, since ssh would take it for an option, or a path for a name.
odd=$(grep -Ev '^[A-Za-z0-9][A-Za-z0-9@._:-]*$' <<<"$list") && { echo "no host's name: $odd" >&2; exit 2; }

xargs -P "$PARALLEL" -I{} bash "$0" --one "$out" {} {} "$INSTALL" "$LIMIT" "$@" \
    <<<"$list" >"$out/.status" || true
# Whoever has no line is unknown too.
{ cat "$out/.status"; cut -f1 "$out/.status" | sort | comm -13 - <(echo "$list") |
    sed 's/$/\tunknown\tnothing came of it/'; } | sort >"$out/status.tsv"
rm -f "$out/.status"
cat "$out/status.tsv"

if command -v probe >/dev/null; then
    probe fleet merge "$out" --out "$fleet" >&2
else
    echo "next: probe fleet merge $out --out $fleet" >&2
fi
! cut -f2 "$out/status.tsv" | grep -qx failed || exit 1
! cut -f2 "$out/status.tsv" | grep -qx unknown || exit 3
