"""From a Hugging Face config.json to a `ModelShape`, by the table of architectures.

The table says which field holds which size; `layer_rules` has the few rules that need more than one
field. What is not in the table is an error, or, where an approximation is allowed, a plain decoder
that carries the sentence of what was not modelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from roofprobe.costmodel.architectures import Architecture, load_architectures
from roofprobe.costmodel.checkpoints import read_checkpoint
from roofprobe.costmodel.config_fields import LARGEST_CONTEXT, MOST_LAYERS, Fields
from roofprobe.costmodel.encoders import read_encoders
from roofprobe.costmodel.layer_rules import layer_sequence
from roofprobe.costmodel.model_shape import ModelShape
from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError

#: Where multimodal configs usually describe their language model.
_TEXT: Final = "text_config"


def read_config(
    config: Mapping[str, object],
    *,
    name: str,
    source: str = "",
    allow_approximate: bool = False,
) -> ModelShape:
    """The shape that a config describes; ``source`` names the file in sentences.

    With ``allow_approximate`` an unknown architecture is read as a plain decoder, and the shape
    says so. Raises `RoofprobeError` for fields that are missing, absurd or contradict each other.
    """
    where = source or name
    outer = Fields(config, where, {}, {})
    row, problem = _architecture(outer)
    language = outer
    text = row.text if row else _TEXT
    inner = outer.inner(text) if text else None
    if inner is not None:
        language = Fields(inner, f"{where}, {text}", {}, {})
        # An unknown model around a known one may use it differently, so it stays unknown.
        if row is not None:
            row, problem = _architecture(language)
        if row is not None and row.text is not None and not row.flat:
            language.fail("it describes a multimodal model inside a multimodal model")
    elif row is not None and text and not row.flat:
        outer.fail(f"the object {text!r}, which describes the language model, is missing")
    row = row or load_architectures().approximate
    notes = [f"{problem}; {row.unmodelled}" if problem else row.unmodelled]
    encoders, unknown = read_encoders(outer)
    if unknown:
        notes.append(f"the encoder in {' and '.join(unknown)} is not known; it is left out")
    said = [note for note in notes if note]
    if said and not allow_approximate:
        known = ", ".join(sorted(row.key for row in language_rows()))
        raise RoofprobeError(
            "unsupported-architecture",
            f"{where}: {said[0].partition(';')[0]}, so it cannot be described exactly. Known are "
            f"{known}; --allow-approximate (in Python allow_approximate=True) plans any other as a "
            "dense decoder.",
        )
    shape = _decoder(language, outer, row, name)
    return dataclasses.replace(
        shape, source=source, encoders=encoders, approximate="; ".join(said) or None
    )


def language_rows() -> list[Architecture]:
    """The rows that are modelled whole, without wrappers of other models."""
    rows = {row.key: row for row in load_architectures().by_type.values() if not row.unmodelled}
    return [row for row in rows.values() if row.text is None or row.flat]


def _architecture(fields: Fields) -> tuple[Architecture | None, str]:
    """The row of a config, or ``None`` and what is not supported."""
    table = load_architectures()
    classes, model_type = fields.texts("architectures"), fields.raw("model_type")
    if model_type is not None and not isinstance(model_type, str):
        fields.fail("'model_type' must be a text")
    if not classes and model_type is None:
        fields.fail("neither 'architectures' nor 'model_type' says what kind of model this is")
    by_class = table.by_class.get(classes[0]) if classes else None
    by_type = table.by_type.get(model_type) if model_type is not None else None
    if by_class and by_type and by_class is not by_type:
        fields.fail(
            f"'architectures' says {shown(classes[0])}, but 'model_type' says "
            f"{shown(str(model_type))}, which is another architecture"
        )
    if classes and by_class is None:
        return None, f"the architecture {shown(classes[0])} is not known"
    if by_class is None and by_type is None:
        return None, f"the model type {shown(str(model_type))} is not known"
    return by_class or by_type, ""


def _decoder(fields: Fields, outer: Fields, row: Architecture, name: str) -> ModelShape:
    fields = dataclasses.replace(fields, names=row.names, defaults=row.defaults)
    tied = "tie_word_embeddings"
    # A multimodal config may say it once, around the language model.
    tied_by = outer if fields.config.get(tied) is None and tied in outer.config else fields
    max_context = fields.optional("max_context", most=LARGEST_CONTEXT)
    if row.learned_positions and max_context is None:
        fields.fail(f"{fields.name('max_context')!r} is missing, the rows of its position table")
    return ModelShape(
        name=name,
        architecture=row.key,
        hidden=fields.whole("hidden"),
        vocab=fields.whole("vocab"),
        layer_sequence=layer_sequence(fields, row, fields.whole("layers", most=MOST_LAYERS)),
        tied_embeddings=tied_by.flag(tied),
        norm_bias=row.norm_bias,
        learned_positions=(max_context or 0) if row.learned_positions else 0,
        max_context=max_context,
        checkpoint=read_checkpoint(fields, None if fields.config is outer.config else outer),
    )
