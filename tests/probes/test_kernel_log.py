"""Xid lines as NVIDIA's documentation and bug reports have them, and logs that tell nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.probes import kernel_log
from roofprobe.probes.kernel_log import read_log, xids_in, xids_of

LOG = """\
[    4.1] nvidia: loading out-of-tree module taints kernel.
[    4.2] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05
[ 1201.7] NVRM: Xid (PCI:0000:1b:00): 63, pid='<unknown>', name=<unknown>, Row Remapper: New row \
marked for remapping, reset gpu to activate.
[ 1202.0] NVRM: Xid (PCI:0000:1c:00): 13, pid=4711, name=python, Graphics Exception
[ 9000.2] NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the \
bus.
6,1234,98765,-;NVRM: Xid (PCI:0000:1B:00): 154, GPU recovery action changed from 0x0 to 0x2
[ 9001.0] NVRM: GPU at PCI:0000:1b:00: GPU-00000000-1111-2222-3333-444444444440
[ 9002.0] eth0: Xid (PCI:0000:1b:00): 31 is not the driver's
""".splitlines()


def test_xids_of_one_device_are_found_in_order_whatever_the_log_writes_in_front() -> None:
    assert xids_in(LOG, "00000000:1B:00.0") == ((63, 79, 154), None)
    assert xids_in(LOG, "0000:1c:00.0") == ((13,), None)
    assert xids_in(LOG, "00000000:1D:00.0") == ((), None)


def test_older_drivers_leave_out_the_word_pci() -> None:
    assert xids_in(["NVRM: Xid (0000:03:00): 48, An uncorrectable"], "0000:03:00.0") == (
        (48,),
        None,
    )


def test_a_log_in_which_the_driver_never_spoke_is_not_one_without_xids() -> None:
    lines = ["[ 0.000000] Starting gVisor...", "[ 0.4] Checking naughty and nice process list..."]
    for log in (lines, []):
        xids, why = xids_in(log, "0000:1b:00.0")
        assert xids is None
        assert why == "not-told (the kernel's log has no line of the NVIDIA driver)"


@pytest.mark.parametrize("address", [None, "", "1b:00.0", "card0"])
def test_without_an_address_there_is_a_reason(address: str | None) -> None:
    xids, why = xids_of(address)
    assert xids is None
    assert why is not None
    assert why.startswith("not-found ")


def test_a_log_that_may_not_be_read_is_a_reason_never_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_log, "KMSG", tmp_path / "no-kmsg")
    program = tmp_path / "dmesg"
    program.write_text(
        "#!/bin/sh\necho 'dmesg: read kernel buffer failed: not permitted' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told = read_log(tmp_path / "no-kmsg")
    assert told == "no-permission (dmesg: read kernel buffer failed: not permitted)"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert read_log(tmp_path / "no-kmsg") == (
        f"no-permission ({tmp_path}/no-kmsg: No such file or directory)"
    )


def test_the_log_is_read_through_dmesg_where_the_device_may_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(LOG)
    program = tmp_path / "dmesg"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    lines = read_log(tmp_path / "no-kmsg")
    assert isinstance(lines, list)
    assert xids_in(lines, "0000:1b:00.0") == ((63, 79, 154), None)


def test_a_file_in_place_of_the_device_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "kmsg").write_bytes(b"6,1,2,-;NVRM: loading\n\xff\xfe broken\n")
    lines = read_log(tmp_path / "kmsg")
    assert isinstance(lines, list)
    assert lines[0].endswith("NVRM: loading")


@given(st.lists(st.text(max_size=120) | st.sampled_from(LOG), max_size=20), st.text(max_size=30))
def test_no_line_and_no_address_breaks_the_parser(lines: list[str], address: str) -> None:
    xids, why = xids_in(lines, address)
    assert (xids is None) == (why is not None)
