"""A ``config.json`` of each preset, for planners that read a model from its checkpoint's folder.

Published checkpoints are often behind a licence, and planners that look them up need a network; a
preset has all sizes that decide times. Only fields of the publisher's file that are known here are
written, so a planner that wants others (rotation, dropout) must not be given it for a model to run.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from roofprobe.costmodel.exporters.files import json_bytes
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.model_presets import find_preset

# model_type → the class in ``architectures``, by which aiconfigurator tells models apart.
CLASSES: Final = {
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM", "mixtral": "MixtralForCausalLM",
}  # fmt: skip


def config_files(subject: Subject, types: Collection[str]) -> dict[str, bytes]:
    """Return ``models/<name>/config.json`` of the presets of ``subject`` that are of ``types``.

    ``types`` are the values of ``model_type`` whose fields the planner reads, out of `CLASSES`: one
    may take experts for a dense layer without a word.
    """
    files = {}
    for model in subject.models:
        preset = find_preset(model.name)
        if preset is None or preset.source != model.source:
            continue  # it was given as a config.json
        kind = str(preset.config["model_type"])
        if kind in types:
            config = {"architectures": [CLASSES[kind]], **preset.config}
            files[f"models/{model.name}/config.json"] = json_bytes(config)
    return files
