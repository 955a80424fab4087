"""The calibration table: which figures came from which source."""

import io
from pathlib import Path

from rich.console import Console

from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import CalibrationFile
from roofprobe.reporting.calibration_view import render_calibration

TABLE = Path(__file__).parents[1] / "costmodel" / "data" / "gemm.csv"


def shown(file: CalibrationFile, width: int = 80) -> str:
    stream = io.StringIO()
    render_calibration(file, Console(file=stream, width=width, _environ={}))
    return stream.getvalue()


def test_two_sources_of_one_device_are_two_tables_with_their_names() -> None:
    found = calibrate([TABLE]).file
    device = found.devices[0]
    source = next(each for each in found.provenance if each.key == device.ops[0].provenance)
    one = found.model_copy(update={"devices": (device,)})
    again = [fit.model_copy(update={"provenance": "second-run"}) for fit in device.ops]
    both = one.model_copy(
        update={
            "devices": (device.model_copy(update={"ops": (*device.ops, *again)}),),
            "provenance": (
                source,
                source.model_copy(update={"key": "second-run", "title": "the second run"}),
            ),
        }
    )
    alone = shown(one)
    assert ", from " not in alone
    text = " ".join(shown(both).split())
    assert f"{device.name}, from {source.title}".replace(" ", "") in text.replace(" ", "")
    assert f"{device.name}, from the second run" in text
    assert max(map(len, shown(both).splitlines())) <= 80
