import subprocess
import sys

from roofprobe.records.schema import Run
from roofprobe.reporting.files import render_files

MODULES = (
    "files",
    "terminal",
    "markdown",
    "html",
    "figures",
    "svg",
    "progress",
    "tables",
    "check_view",
    "junit",
    "prometheus",
)
HEAVY = ("torch", "triton", "pynvml", "matplotlib", "jinja2", "rich", "pandas", "numpy")


def test_every_file_is_rendered_as_utf8(example_run: Run) -> None:
    files = render_files(example_run)
    assert sorted(files) == ["junit.xml", "metrics.prom", "report.html", "report.md"]
    assert files["report.md"].decode().startswith("# roofprobe: Example GPU, Example CPU\n")
    assert files["report.html"].endswith(b"</html>")
    assert files["junit.xml"].decode().startswith("<?xml version='1.0' encoding='utf-8'?>\n")
    assert files["metrics.prom"].decode().startswith("# HELP roofprobe_last_run_time_seconds ")


def test_importing_the_room_loads_nothing_heavy() -> None:
    imports = "; ".join(f"import roofprobe.reporting.{name}" for name in MODULES)
    script = f"import sys; {imports}; print(sorted(set({HEAVY}) & set(sys.modules)))"
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "[]"
