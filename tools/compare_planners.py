"""Export a source to planners, let each planner compute, and hold its answer against our own.

    python tools/compare_planners.py SOURCE… [--planner NAME…] [--json] [--gpu NAME]

needs the environments of ``tools/planners/make-venvs.sh``; a planner without one is left out with
its reason. Each row is one question: the planner's milliseconds, those of ``probe plan``'s step,
and both again for what the two count alike: where a planner leaves something out, or counts what is
not there, that part is taken away on the side that has it, by the planner's own figures or by its
documented formula. That second difference shows whether the files were understood.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from roofprobe.costmodel.export import export
from roofprobe.costmodel.exporters.phases import local_step
from roofprobe.costmodel.exporters.subject import Subject, read_subject
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import roofline
from roofprobe.costmodel.predict import step_time, time_of
from roofprobe.costmodel.steps import Layout, Load

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "tools" / "planners"
MODELS = ("llama-3.1-8b", "llama-2-70b", "llama-3.1-70b", "qwen3-8b")
TOKENS, BATCH = 2048, 32
# What our step sends over links between devices; each planner has a formula of its own for them.
LINKS = ("all_reduce", "logits", "stage")
ENDS = ("embed", "final_norm", "lm_head", "sample")


CALCULON = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class Row:
    """One question; milliseconds. ``alike`` are both sides for what they count alike."""

    source: str
    planner: str
    case: str
    planner_ms: float
    plan_ms: float
    alike_planner_ms: float
    alike_plan_ms: float
    why: str

    @property
    def difference(self) -> float:
        """By how much the planner's figure is above ours, as a share."""
        return self.planner_ms / self.plan_ms - 1

    @property
    def alike_difference(self) -> float:
        """The same of what both count alike."""
        return self.alike_planner_ms / self.alike_plan_ms - 1


class LeftOutError(Exception):
    """Why a planner cannot be asked here."""


def environment(name: str) -> Path:
    """Return the interpreter of a planner's environment."""
    python = ROOT / f".venv-planners-{name}" / "bin" / "python"
    if not python.exists():
        raise LeftOutError(f"{name} has no environment; tools/planners/make-venvs.sh makes it")
    return python


def clone(name: str) -> Path:
    """Return the clone of a planner that is no package."""
    folder = ROOT / f".venv-planners-{name}" / "source"
    if not folder.exists():
        raise LeftOutError(f"{name} was not cloned; tools/planners/make-venvs.sh does")
    return folder


def ask(
    python: Path, script: str, question: Mapping[str, Any], *,
    cwd: Path | None = None, path: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Put a question to a planner and return its answers, one per case."""
    variables = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [str(python), str(QUESTIONS / script)], input=json.dumps(question), text=True,
        capture_output=True, cwd=cwd, env=variables, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER "):
            answers: list[dict[str, Any]] = json.loads(line.removeprefix("ANSWER "))
            for answer in answers:
                if "error" in answer:
                    raise RuntimeError(f"{script}: {answer['error']}")
            return answers
    raise RuntimeError(f"{script} gave no answer: {done.stderr[-2000:]}")


def ours_ms(
    subject: Subject, model: str, load: Load, tp: int, *,
    only: Sequence[str] = (), but: Sequence[str] = (),
) -> float:  # fmt: skip
    """Return our step in milliseconds, of the operations named ``only``, ``but`` for some."""
    base = subject.base
    found = step_time(
        subject.calibration, load_model(model), load, precision=base, kv_precision=base,
        layout=Layout(tp=tp),
    )  # fmt: skip
    return 1e3 * sum(
        op.median_s for op in found.ops if op.name not in but and (not only or op.name in only)
    )


def prefill_of(tokens: float = TOKENS, batch: float = 1.0) -> Load:
    """Return a prefill."""
    return Load(prompts=batch, prompt_len=float(tokens))


def decode_of(batch: float = BATCH, context: float = TOKENS) -> Load:
    """Return a decode step."""
    return Load(decodes=float(batch), context=float(context))


def degrees_of(subject: Subject) -> tuple[int, ...]:
    """Return the tensor-parallel degrees that can be asked for: one without a known link."""
    return (1, 2, 4, 8) if subject.calibration.hardware.link else (1,)


def aiconfigurator(subject: Subject, folder: Path) -> Iterator[Row]:
    """Static mode: a prefill of 8 prompts of 1024 tokens, then decode steps of 8 sequences."""
    python = environment("aiconfigurator")
    models = {"llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
              "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B"}  # fmt: skip
    asked = [
        {"ours": ours, "model": theirs, "tp": tp, "batch": 8, "input_len": 1024, "output_len": 128}
        for ours, theirs in models.items()
        for tp in degrees_of(subject)
    ]
    answers = ask(python, "ask_aiconfigurator.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked})  # fmt: skip
    uncounted = ("rope", "kv_write", "sample", "final_norm", "logits")
    for case, answer in zip(asked, answers, strict=True):
        model, tp = str(case["ours"]), int(str(case["tp"]))
        at = f"{model}, tp {tp}, 8 × 1024 + 128"
        first = prefill_of(1024, 8)
        yield _row(subject, "aiconfigurator", f"TTFT {at}", answer["ttft_ms"],
                   ours_ms(subject, model, first, tp))  # fmt: skip
        step = decode_of(8, 1024 + 64)
        whole = ours_ms(subject, model, step, tp)
        alike = ours_ms(subject, model, step, tp, but=uncounted)
        yield _row(
            subject, "aiconfigurator", f"TPOT {at}", answer["tpot_ms"], whole,
            answer["tpot_ms"], alike,
            "it counts no rotation, cache write, sampling, last norm or gathered logits in decode",
        )  # fmt: skip


def llm_analysis(subject: Subject, folder: Path) -> Iterator[Row]:
    """One call per phase, with that phase's flags."""
    python = environment("llm-analysis")
    eight = {"name": "llama-3.1-8b", "num_layers": 32, "n_head": 32, "hidden_dim": 4096,
             "vocab_size": 128256, "max_seq_len": 131072, "num_key_value_heads": 8,
             "ffn_embed_dim": 21504, "expansion_ratio": 5.25, "model_type": "llama"}  # fmt: skip
    models: dict[str, Any] = {
        "llama-3.1-8b": eight, "llama-2-70b": "upstage_Llama-2-70b-instruct-v2"
    }  # fmt: skip
    flags = json.loads((folder / "efficiencies.json").read_text())
    asked = [
        {**row, "ours": row["model"], "model": models[row["model"]]}
        for row in flags
        if row["model"] in models and row["precision"] == subject.base
        and row["tokens"] == TOKENS and row["batch"] in (1, BATCH)
        and (row["phase"] == "prefill" or row["batch"] == BATCH)
        and row["tp"] in degrees_of(subject) and row["tp"] in (1, 8)
    ]  # fmt: skip
    answers = ask(python, "ask_llm_analysis.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked})  # fmt: skip
    for case, answer in zip(asked, answers, strict=True):
        model, tp = case["ours"], case["tp"]
        phase = case["phase"]
        found = answer[phase]
        theirs = found["ms"]
        layers = theirs - found["links_ms"] - found["ends_ms"]
        if phase == "prefill":
            load = prefill_of()
            alike = layers * flops_of(subject, model, tp) * tp / flops_there(model)
            why = "the layers, by our FLOPs instead of its own; without links"
        else:
            load = decode_of()
            kv_ms = found["kv_cache_ms"]
            alike = kv_ms / 2 + (layers - kv_ms) * weights_share(model, case["model"])
            alike += found["ends_ms"] / tp
            why = (
                "the cache moved once and not twice, weights as wide as ours, the vocabulary split "
                "over the group; without links"
            )
        whole = ours_ms(subject, model, load, tp)
        left_out = (*ENDS, *LINKS) if phase == "prefill" else LINKS
        own = ours_ms(subject, model, load, tp, but=left_out)
        yield _row(subject, "llm-analysis", f"{phase} {model}, tp {tp}", theirs, whole, alike, own,
                   why)  # fmt: skip


def flops_of(subject: Subject, model: str, tp: int) -> float:
    """Return our FLOPs of a prefill's layers on one GPU."""
    ops = local_step(load_model(model), prefill_of(), subject.base, subject.base, tp)
    least = roofline(subject.calibration, [op for op in ops if op.name not in ENDS], 1)
    peak = subject.calibration.hardware.peak_flops[subject.base]
    return float(least.compute_s[0]) * peak


def flops_there(model: str) -> float:
    """Return what llm-analysis counts for them: 16 H^2 per token of an MLP, whole squares."""
    shape = load_model(model)
    h, s = shape.hidden, TOKENS
    layer = 4 * s * h * h * (1 + kv_share(model)) + 4 * s * s * h + 16 * s * h * h
    return float(shape.layers * layer)


def weights_share(model: str, theirs: Any) -> float:
    """Return our bytes of a layer's weights per byte of its."""
    shape = load_model(model)
    mlp: Any = shape.layer_sequence[0].mlp
    width = theirs["ffn_embed_dim"] if isinstance(theirs, dict) else 4 * shape.hidden
    attention = 2 * shape.hidden * shape.hidden * (1 + kv_share(model))
    return float(
        (attention + 3 * shape.hidden * mlp.inter) / (attention + 2 * shape.hidden * width)
    )


def kv_share(model: str) -> float:
    """Return KV heads per query head."""
    attention: Any = load_model(model).layer_sequence[0].attention
    return float(attention.kv_heads / attention.heads)


def genz(subject: Subject, folder: Path) -> Iterator[Row]:
    """One dictionary per phase."""
    python = environment("genz")
    models = {"llama-3.1-8b": "meta-llama/Llama-3.1-8B", "llama-2-70b": "meta-llama/Llama-2-70B"}
    systems = json.loads((folder / "systems.json").read_text())
    asked = [
        {**row, "ours": row["model"], "model": models[row["model"]]}
        for row in systems
        if row["model"] in models and row["precision"] == subject.base
        and row["tokens"] == TOKENS
        and row["batch"] == (1 if row["phase"] == "prefill" else BATCH)
        and row["tp"] in degrees_of(subject) and row["tp"] in (1, 8)
    ]  # fmt: skip
    answers = ask(python, "ask_genz.py", {"cases": asked})
    for case, answer in zip(asked, answers, strict=True):
        model, tp, prefill = case["ours"], case["tp"], case["phase"] == "prefill"
        load = prefill_of() if prefill else decode_of()
        layers = load_model(model).layers
        whole = ours_ms(subject, model, load, tp)
        # Of prompts it counts logits of every token, of decode only its look-up is a product.
        left_out = ("embed", "lm_head", *LINKS) if prefill else ("embed", *LINKS)
        alike_ours = ours_ms(subject, model, load, tp, but=left_out)
        alike = answer["ms"] - answer["links_ms"] - answer["embedding_ms"]
        why = "without its product for the embedding and without links"
        if prefill:
            alike -= answer["classifier_ms"] + answer["scores_ms"] * layers / 2
            why += ", without logits and the half of the scores that is masked"
        yield _row(subject, "genz", f"{case['phase']} {model}, tp {tp}", answer["ms"], whole,
                   alike, alike_ours, why)  # fmt: skip


def calculon(subject: Subject, folder: Path) -> Iterator[Row]:
    """Its forward pass of one prompt; alike are the matrix products of projections and MLP."""
    python, source = environment("calculon"), clone("calculon")
    asked = []
    for model in ("llama-3.1-8b", "llama-2-70b"):
        shape = load_model(model)
        attention: Any = shape.layer_sequence[0].attention
        mlp: Any = shape.layer_sequence[0].mlp
        application = {
            "name": model, "hidden": shape.hidden, "feedforward": mlp.inter * 3 // 2,
            "seq_size": TOKENS, "attn_heads": attention.heads, "attn_size": attention.head_dim,
            "num_blocks": shape.layers,
        }  # fmt: skip
        asked.append(
            {"ours": model, "tp": 1, "model": application, "datatype": CALCULON[subject.base]}
        )
    answers = ask(python, "ask_calculon.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked},
                  path=source)  # fmt: skip
    products = ("Query", "Key", "Value", "Mlp1", "Mlp2", "AttnBlock_MLP")
    for case, answer in zip(asked, answers, strict=True):
        model = str(case["ours"])
        layers = answer["layers"]
        whole = answer["blocks"] * sum(layer["ms"] for layer in layers)
        linear = [x for x in layers if x["matrix"] and x["name"].endswith(products)]
        alike = answer["blocks"] * sum(layer["ms"] for layer in linear)
        flops = answer["blocks"] * sum(layer["flops"] for layer in linear)
        ops = [op for op in local_step(load_model(model), prefill_of(), subject.base,
                                       subject.base, 1)
               if op.name in ("qkv", "o", "gate_up", "down")]  # fmt: skip
        ours = 1e3 * time_of(subject.calibration, ops).median_s
        our_flops = sum(
            float(op.count) * 2 * float(op.shape["m"].max()) * float(op.shape["n"])
            * float(op.shape["k"]) for op in ops
        )  # fmt: skip
        yield _row(
            subject, "calculon", f"forward {model}, tp 1", whole,
            ours_ms(subject, model, prefill_of(), 1), alike * our_flops / flops, ours,
            "matrix products only, scaled to our FLOPs: it has as many KV heads as heads, and "
            "writes attention's scores to memory three times",
        )  # fmt: skip


def infersim(subject: Subject, folder: Path) -> Iterator[Row]:
    """Its example model; alike are products and attention, without its scheduler's constants."""
    source = clone("infersim")
    with tempfile.TemporaryDirectory() as place:
        work = Path(place) / "source"
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(".git"))
        shutil.copytree(folder / "bench_data", work / "bench_data", dirs_exist_ok=True)
        case = {"config": "hf_configs/qwen3-8B_config.json", "tokens": TOKENS, "batch": BATCH}
        question = {"folder": str(folder), "label": subject.label, "cases": [case]}
        answer = ask(Path(sys.executable), "ask_infersim.py", question, cwd=work)[0]
    counted = ("qkv", "o", "attention", "gate_up", "down")
    for name, load, scheduler in (("ttft", prefill_of(), 30.0), ("tpot", decode_of(), 5.0)):
        theirs = answer[f"{name}_ms"]
        alike = ours_ms(subject, "qwen3-8b", load, 1, only=counted)
        yield _row(
            subject, "infersim", f"{name.upper()} qwen3-8b, tp 1", theirs,
            ours_ms(subject, "qwen3-8b", load, 1), theirs - scheduler, alike,
            "products and attention only, without its 30 ms and 5 ms",
        )  # fmt: skip


def llmservingsim(subject: Subject, folder: Path) -> Iterator[Row]:
    """Its reader and look-ups; links are its cluster's, so tp 1."""
    python, source = environment("llmservingsim"), clone("llmservingsim")
    asked = [
        {"model": theirs, "ours": ours, "variant": subject.base, "tp": 1, "phase": phase,
         "tokens": TOKENS, "batch": BATCH, "layers": load_model(ours).layers}
        for ours, theirs in (("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
                             ("llama-2-70b", "meta-llama/Llama-2-70b-hf"))
        for phase in ("prefill", "decode")
    ]  # fmt: skip
    answers = ask(python, "ask_llmservingsim.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked},
                  cwd=source / "serving")  # fmt: skip
    for case, answer in zip(asked, answers, strict=True):
        load = prefill_of() if case["phase"] == "prefill" else decode_of()
        yield _row(subject, "llmservingsim", f"{case['phase']} {case['ours']}, tp 1",
                   answer["ms"], ours_ms(subject, str(case["ours"]), load, 1))  # fmt: skip


def _row(
    subject: Subject, planner: str, case: str, theirs: float, ours: float,
    alike: float | None = None, alike_ours: float | None = None, why: str = "",
) -> Row:  # fmt: skip
    return Row(
        subject.source, planner, case, theirs, ours,
        theirs if alike is None else alike, ours if alike_ours is None else alike_ours, why,
    )  # fmt: skip


PLANNERS: dict[str, Callable[[Subject, Path], Iterator[Row]]] = {
    "aiconfigurator": aiconfigurator,
    "llm-analysis": llm_analysis,
    "genz": genz,
    "calculon": calculon,
    "infersim": infersim,
    "llmservingsim": llmservingsim,
}


def compare(source: Path, planner: str, gpu: str | None = None) -> list[Row]:
    """Export ``source`` to ``planner`` and ask it; raises `LeftOutError` where it is not here."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export(source, planner, folder, gpu=gpu, models=MODELS)
        subject = read_subject(source, gpu=gpu, models=MODELS)
        return list(PLANNERS[planner](subject, folder))


def main() -> None:
    """Compare and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--planner", nargs="*", default=list(PLANNERS), choices=list(PLANNERS))
    parser.add_argument("--gpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    reasons: dict[str, str] = {}
    for source in options.sources:
        for planner in options.planner:
            try:
                rows += compare(source, planner, options.gpu)
            except LeftOutError as reason:
                reasons[planner] = str(reason)
    if options.json:
        listed = [{**asdict(row), "difference": row.difference,
                   "alike_difference": row.alike_difference} for row in rows]  # fmt: skip
        print(json.dumps({"rows": listed, "left_out": reasons}, indent=1))
        return
    print("| planner | case | planner, ms | probe, ms | difference | alike | why |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.planner} | {row.case} | {row.planner_ms:.4g} | {row.plan_ms:.4g} | "
              f"{row.difference:+.1%} | {row.alike_difference:+.1%} | {row.why} |")  # fmt: skip
    for reason in reasons.values():
        print(reason, file=sys.stderr)


if __name__ == "__main__":
    main()
