"""The doctor's checks of GPUs together: what is there, what torch can use, why not all of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from roofprobe.probes.doctor_scene import (
    NEW_TORCH,
    Finding,
    Scene,
    Status,
    one_line,
    version_of,
)
from roofprobe.probes.nvml import Nvml
from roofprobe.probes.nvml_facts import NvmlUnavailable, reason_code

_HIDES_ALL: Final = ("", "-1", "NoDevFiles")


def check_gpus(scene: Scene) -> Iterable[Finding]:
    """Say how many of the host's GPUs torch can use, and why not all of them."""
    torch, hardware = scene.torch, scene.hardware

    def finding(status: Status, figure: str, sentence: str, remedy: str | None = None) -> Finding:
        return Finding("gpus", "GPUs", status, figure, sentence, remedy)

    lacking = sorted({device.lacks_code for device in torch.devices if device.lacks_code})
    if lacking:
        sentence = f"This torch has no code for {', '.join(lacking)}, so its kernels will not run."
        yield finding("fail", ", ".join(lacking), sentence, NEW_TORCH)
    elif torch.devices:
        yield _usable_gpus(scene)
    elif torch.other_accelerator:
        yield finding("ok", torch.other_accelerator, "torch can use this accelerator.")
    elif torch.error is not None and (hardware.nvidia or hardware.amd):
        yield finding("unknown", str(hardware), "Whether torch can use it shows once torch works.")
    elif hardware.nvidia:
        status, sentence, remedy = _why_no_nvidia(scene)
        yield finding(status, f"0 of {hardware.nvidia} NVIDIA", sentence, remedy)
    elif hardware.amd_computes or (hardware.amd and torch.hip):
        sentence, remedy = _why_no_amd(scene)
        yield finding("fail", f"0 of {hardware.amd} AMD", sentence, remedy)
    elif hardware.amd:
        yield finding(
            "ok", str(hardware), "It drives a screen; torch is not built for it, and the CPU is "
            "what will be measured.",
        )  # fmt: skip
    else:
        yield finding(
            "ok", "none (the CPU will be measured)",
            "No GPU was found, so the CPU is what will be measured.",
            "If there should be one in this container: docker run --gpus all ...",
        )  # fmt: skip


def _usable_gpus(scene: Scene) -> Finding:
    usable, torch = len(scene.torch.devices), scene.torch
    there = max(usable, scene.hardware.nvidia if torch.cuda else scene.hardware.amd)
    variable = _visible_variable(scene)
    figure = f"{usable} of {there}" + (f" ({variable})" if variable else "")
    sliced = isinstance(scene.nvml, Nvml) and any(
        device.limits().mig_enabled for device in scene.nvml.devices()
    )
    if usable < there and not variable and not sliced:
        return Finding(
            "gpus", "GPUs", "warn", figure, "torch can use only a part of the GPUs of this host.",
            "nvidia-smi -L  # compare with: sudo dmesg | grep -i xid",
        )  # fmt: skip
    return Finding("gpus", "GPUs", "ok", figure, "torch can use them.")


def _why_no_nvidia(scene: Scene) -> tuple[Status, str, str]:
    """Return what keeps torch from the NVIDIA GPUs that are there, nearest cause first."""
    host, torch, nvml = scene.host, scene.torch, scene.nvml
    visible = host.environ.get("CUDA_VISIBLE_DEVICES")
    nodes = host.find("dev/nvidia[0-9]*") + host.find("dev/nvidiactl")
    closed = [node for node in nodes if not host.access(node, os.R_OK | os.W_OK)]
    speaks = nvml.cuda_driver_version() if isinstance(nvml, Nvml) else None
    if torch.cuda is None:
        made = "for ROCm" if torch.hip else "without CUDA"
        return _fail(f"This torch is built {made}, so it cannot use the GPU.", NEW_TORCH)
    if visible is not None and visible.strip() in _HIDES_ALL:
        sentence = f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU from torch."
        return "warn", sentence, "unset CUDA_VISIBLE_DEVICES"
    if isinstance(nvml, NvmlUnavailable) and nvml.code in ("driver-not-loaded", "version-mismatch"):
        return _fail(nvml.sentence, nvml.remedy or "nvidia-smi")
    if closed:
        names = ", ".join(f"/{node.relative_to(host.root)}" for node in closed)
        return _fail(
            f"This user may not open {names}.",
            "ls -l /dev/nvidia*  # then: sudo usermod -aG GROUP $USER, with the group shown "
            "there, and log in again",
        )
    if not nodes and not host.find("dev/dxg"):
        if host.read("proc/driver/nvidia/version") is None:
            return _fail(
                "The NVIDIA driver is not loaded on this host.",
                "sudo modprobe nvidia  # or install it: sudo ubuntu-drivers install",
            )
        return _fail(
            "The driver is loaded, but its device files are not in this container.",
            "docker run --gpus all ...  # on the machine itself: sudo nvidia-modprobe -c0 -u",
        )
    if speaks and version_of(speaks)[:1] < version_of(torch.cuda)[:1]:
        return _fail(
            f"The driver speaks CUDA {speaks}, but torch is built for CUDA {torch.cuda}.",
            f"{NEW_TORCH}  # picks the build for this driver; or install a newer driver",
        )
    if visible is not None:
        return _fail(
            f"CUDA_VISIBLE_DEVICES is {visible!r}, and torch finds no such GPU.",
            "unset CUDA_VISIBLE_DEVICES  # nvidia-smi -L lists what there is",
        )
    why = one_line(torch.complaint or "no reason given")
    return _fail(f"torch cannot use it: {why}.", f"nvidia-smi  # if that works: {NEW_TORCH}")


def _fail(sentence: str, remedy: str) -> tuple[Status, str, str]:
    return "fail", sentence, remedy


def _why_no_amd(scene: Scene) -> tuple[str, str]:
    variable = _visible_variable(scene)
    if not scene.torch.hip:
        return "This torch is not built for ROCm, so it cannot use the GPU.", (
            "uv pip install --reinstall torch --torch-backend=rocm6.4  # as your ROCm version"
        )
    if variable:
        name = variable.partition("=")[0]
        return f"{variable} leaves torch no GPU.", f"unset {name}  # rocminfo lists what there is"
    sentence = f"torch cannot use it: {one_line(scene.torch.complaint or 'no reason given')}."
    return sentence, "rocminfo"


def _visible_variable(scene: Scene) -> str | None:
    names = ["CUDA_VISIBLE_DEVICES"]
    if scene.torch.hip:
        names = ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", *names]
    environ = scene.host.environ
    return next((f"{name}={environ[name]}" for name in names if name in environ), None)


def check_driver(scene: Scene) -> Iterable[Finding]:
    """Look at NVIDIA's driver and at what it can open."""
    if not scene.has_nvidia:
        return
    nvml = scene.nvml
    if isinstance(nvml, NvmlUnavailable):
        kernel = scene.host.read("proc/driver/nvidia/version")
        if kernel:
            loaded = "A driver is loaded."
            yield Finding("driver", "NVIDIA driver", "ok", _driver_number(kernel), loaded)
        yield Finding(
            "nvml", "NVML", "warn", nvml.code,
            f"{nvml.sentence} Throttling and a lowered power limit would go unseen.", nvml.remedy,
        )  # fmt: skip
        return
    version, cuda = nvml.driver_version(), nvml.cuda_driver_version()
    if version is None:
        unnamed = "The driver does not tell its version."
        yield Finding("driver", "NVIDIA driver", "unknown", "?", unnamed, "nvidia-smi")
    else:
        figure = f"{version} (CUDA {cuda})" if cuda else version
        yield Finding("driver", "NVIDIA driver", "ok", figure, "A driver is loaded.")
    lost = nvml.unreachable()
    if lost:
        figure = ", ".join(f"{place}: {reason_code(why)}" for place, why in lost.items())
        yield Finding(
            "nvml", "NVML", "fail", figure, "The driver knows GPUs that it cannot open.",
            "sudo dmesg | grep -i xid  # then restart the host, or hand the instance back",
        )  # fmt: skip
    else:
        known = len(nvml.devices())
        figure = f"{known} device" if known == 1 else f"{known} devices"
        answers = "Clocks, power and limits can be read."
        yield Finding("nvml", "NVML", "ok", figure, answers)


def check_rocm(scene: Scene) -> Iterable[Finding]:
    """Look at the device files that ROCm needs."""
    node = scene.host.root / "dev/kfd"
    if not (scene.torch.hip or (node.exists() and scene.hardware.amd_computes)):
        return
    renderers = scene.host.find("dev/dri/renderD*")
    closed = [
        f"/{path.relative_to(scene.host.root)}"
        for path in (node, *renderers)
        if path.exists() and not scene.host.access(path, os.R_OK | os.W_OK)
    ]
    if not node.exists():
        yield Finding(
            "kfd", "ROCm device files", "fail" if scene.hardware.amd_computes else "warn", "none",
            "/dev/kfd is missing: the amdgpu driver is not loaded, or not in this container.",
            "docker run --device=/dev/kfd --device=/dev/dri ...  # on the machine itself: sudo "
            "modprobe amdgpu",
        )  # fmt: skip
    elif closed:
        yield Finding(
            "kfd", "ROCm device files", "fail", ", ".join(closed), "This user may not open them.",
            "sudo usermod -aG render,video $USER  # then log in again",
        )  # fmt: skip
    else:
        yield Finding("kfd", "ROCm device files", "ok", "/dev/kfd", "This user may open them.")


def _driver_number(kernel_line: str) -> str:
    words = kernel_line.split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "unnamed")
