"""Encoder shapes: the vision or audio model that turns an input into embeddings before the prefill.

An encoder runs once for each image or audio window and caches nothing, so it is a model of which
there is only a prefill. Its attention sees all tokens of one input at once.
"""

from __future__ import annotations

from typing import Final

from roofprobe.costmodel.architectures import EncoderRow, load_architectures
from roofprobe.costmodel.config_fields import MOST_LAYERS, Fields
from roofprobe.costmodel.model_shape import EncoderShape

#: Fields of a multimodal config that describe an encoder.
ENCODER_FIELDS: Final = ("vision_config", "audio_config")


def read_encoders(outer: Fields) -> tuple[tuple[EncoderShape, ...], tuple[str, ...]]:
    """The encoders of a multimodal config, and the fields of those that are of no known kind.

    Raises `RoofprobeError` where the sizes of a known kind are missing or absurd.
    """
    table = load_architectures().encoders
    encoders: list[EncoderShape] = []
    unknown: list[str] = []
    for field in ENCODER_FIELDS:
        config = outer.inner(field)
        if not config:
            continue
        # Some vision configs repeat no type, so that of the whole model has to do.
        kind = config.get("model_type") or outer.raw("model_type")
        row = table.get(kind) if isinstance(kind, str) else None
        if row is None:
            unknown.append(field)
            continue
        where = f"{outer.where}, {field}"
        encoders.append(_encoder(Fields(config, where, row.names, row.defaults), row, str(kind)))
    return tuple(encoders), tuple(unknown)


def _encoder(fields: Fields, row: EncoderRow, model_type: str) -> EncoderShape:
    read = _vision_input if row.kind == "vision" else _audio_input
    input_width, tokens = read(fields)
    hidden, heads = fields.whole("hidden"), fields.whole("heads")
    if hidden % heads:
        fields.fail(f"the width {hidden} is no multiple of the {heads} heads")
    return EncoderShape(
        kind=row.kind,
        hidden=hidden,
        layers=fields.whole("layers", most=MOST_LAYERS),
        heads=heads,
        inter=fields.whole("inter"),
        gated=model_type in row.gated_types,
        input_width=input_width,
        tokens=tokens,
        **(_mergers(fields, hidden) if row.mergers else {}),
    )


def _mergers(fields: Fields, hidden: int) -> dict[str, int]:
    """One merger after the last layer, and one after each layer that feeds the decoder too."""
    deep = fields.raw("deepstack_visual_indexes") or []
    if not isinstance(deep, list) or len(deep) > MOST_LAYERS:
        fields.fail("'deepstack_visual_indexes' must be a list of layer numbers")
    return {
        "mergers": 1 + len(deep),
        "merged_width": hidden * fields.whole("spatial_merge_size", most=1000, default=2) ** 2,
        "output_width": fields.whole("out_hidden_size"),
    }


def _vision_input(fields: Fields) -> tuple[int, int | None]:
    patch = fields.whole("patch", most=10_000)
    channels = fields.whole("channels", most=1000, default=3)
    frames = fields.whole("frames", most=1000, default=1)
    image = fields.optional("image", most=1_000_000)
    if image is not None and image < patch:
        fields.fail(f"images of {image} pixels are smaller than a patch of {patch}")
    return channels * frames * patch**2, None if image is None else (image // patch) ** 2


def _audio_input(fields: Fields) -> tuple[int, int | None]:
    # Whisper's first convolution reads three frames of mel bins.
    return 3 * fields.whole("bins", most=10_000), fields.optional("tokens")
