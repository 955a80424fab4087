#!/bin/sh
# Make the environments of `make test-planners`, one per planner, as .venv-planners-NAME: each has
# versions that exclude each other's. What cannot be had is left out with a reason, and its tests
# skip. Calculon, InferSim and LLMServingSim are no packages: they are cloned at the commit that was
# checked; CALCULON, INFERSIM and LLMSERVINGSIM name repositories to clone instead (a path or an
# address), for a host that does not reach GitHub.
set -u
python=${PYTHON:-python3}

make_venv() { # NAME PACKAGE...
    name=$1
    venv=.venv-planners-$1
    shift
    [ -e "$venv/.ready" ] && return 0
    echo "making $venv ($*)" >&2
    { "$python" -m venv "$venv" &&
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; } ||
        { echo "left out: $name cannot be installed (see above)" >&2; return 0; }
    touch "$venv/.ready"
}

# What is checked out may be some folders only.
# shellcheck disable=SC2086
clone() { # NAME URL COMMIT GIVEN [FOLDERS]
    name=$1 url=$2 commit=$3 given=$4 what=${5:-.}
    upper=$(echo "$name" | tr '[:lower:]' '[:upper:]')
    folder=.venv-planners-$name/source
    [ -e "$folder/.git" ] && return 0
    mkdir -p ".venv-planners-$name"
    # A repository that is given may be one that cannot leave files out.
    filter=--filter=blob:none
    [ -z "$given" ] || filter=
    { git clone --quiet --no-checkout $filter "${given:-$url}" "$folder" &&
        git -C "$folder" checkout --quiet "$commit" -- $what; } ||
        { echo "left out: $name $commit cannot be cloned from ${given:-$url}; $upper names" \
            "another repository" >&2; rm -rf "$folder"; }
    return 0
}

make_venv aiconfigurator aiconfigurator==0.12.0 aiconfigurator-core==0.12.0
make_venv llm-analysis llm-analysis==0.2.2
make_venv genz genz-llm==0.0.16
make_venv calculon pandas psutil
make_venv llmservingsim pandas pyyaml rich
clone calculon https://github.com/calculon-ai/calculon caa4b11 "${CALCULON:-}"
clone infersim https://github.com/alibaba/InferSim f2293da "${INFERSIM:-}"
clone llmservingsim https://github.com/casys-kaist/LLMServingSim 5daddb2 "${LLMSERVINGSIM:-}" \
    "serving profiler/models"
