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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner_counts import (
    BATCH,
    ENDS,
    LINKS,
    TOKENS,
    decode_of,
    flops_of,
    infersim_rounding,
    llm_analysis_flops,
    llm_analysis_weights,
    ours_ms,
    prefill_of,
    products_of,
)

from roofprobe.costmodel.export import export
from roofprobe.costmodel.exporters.subject import Subject, read_subject
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.steps import Load

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "tools" / "planners"
DENSE = ("llama-3.1-8b", "llama-2-70b")
EXPERTS = ("mixtral-8x7b", "qwen3-30b-a3b")
MODELS = (*DENSE, *EXPERTS, "qwen3-8b")
TTFT, TPOT = "TTFT", "TPOT"
PHASES = {"prefill": TTFT, "decode": TPOT}
CALCULON = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class Row:
    """One question; milliseconds. ``alike`` are both sides for what they count alike."""

    source: str
    planner: str
    what: str
    model: str
    tp: int
    ep: int
    planner_ms: float
    plan_ms: float
    alike_planner_ms: float
    alike_plan_ms: float
    why: str

    @property
    def case(self) -> str:
        """Return what was asked, in words."""
        return f"{self.what} {self.model}, tp {self.tp}" + (
            f", ep {self.ep}" if self.ep > 1 else ""
        )

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
    folder = ROOT / f".venv-planners-{name}"
    if not (folder / ".ready").exists():
        raise LeftOutError(f"{name} has no environment; tools/planners/make-venvs.sh makes it")
    return folder / "bin" / "python"


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
            for case, answer in zip(question["cases"], answers, strict=True):
                if "error" in answer:
                    raise RuntimeError(f"{script}: {case}: {answer['error']}")
            return answers
    raise RuntimeError(f"{script} gave no answer: {done.stderr[-2000:]}")


def degrees_of(subject: Subject) -> tuple[int, ...]:
    """Return the tensor-parallel degrees that can be asked for: one without a known link."""
    return (1, 2, 4, 8) if subject.calibration.hardware.link else (1,)


def aiconfigurator(subject: Subject, folder: Path) -> Iterator[Row]:
    """Static mode: a prefill of 8 prompts of 1024 tokens, then decode steps of 8 sequences."""
    python = environment("aiconfigurator")
    names = {name: str(folder / "models" / name) for name in (*DENSE, *EXPERTS)}
    names["llama-3.1-8b"] = "meta-llama/Meta-Llama-3.1-8B"  # its own configuration of it
    degrees = degrees_of(subject)
    spread = [(name, tp, 1) for name in DENSE for tp in degrees]
    if subject.base in subject.precisions("grouped_gemm"):
        spread += [(name, tp, ep) for name in EXPERTS
                   for tp in degrees if tp in (1, 8) for ep in dict.fromkeys((1, tp))]  # fmt: skip
    asked = [
        {"model": names[name], "tp": tp, "ep": ep if name in EXPERTS else None, "batch": 8,
         "input_len": 1024, "output_len": 128}
        for name, tp, ep in spread
    ]  # fmt: skip
    answers = ask(python, "ask_aiconfigurator.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked})  # fmt: skip
    uncounted = ("rope", "kv_write", "sample", "final_norm", "logits")
    for (model, tp, ep), answer in zip(spread, answers, strict=True):
        first, step = prefill_of(1024, 8), decode_of(8, 1024 + 64)
        for what, load in ((TTFT, first), (TPOT, step)):
            theirs = answer[f"{what.lower()}_ms"]
            alike = (theirs, ours_ms(subject, model, load, tp, ep, but=uncounted))
            yield _row(
                subject, "aiconfigurator", what, model, load, theirs, tp, ep, alike=alike,
                why="it counts no rotation, cache write, sampling, last norm or gathered logits",
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
    asked = [
        {**row, "ours": row["model"], "model": models[row["model"]]}
        for row in _phases(subject, folder / "efficiencies.json") if row["model"] in models
    ]  # fmt: skip
    answers = ask(python, "ask_llm_analysis.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked})  # fmt: skip
    for case, answer in zip(asked, answers, strict=True):
        model, tp, phase = case["ours"], case["tp"], case["phase"]
        found = answer[phase]
        layers = found["ms"] - found["links_ms"] - found["ends_ms"]
        if phase == "prefill":
            load, left_out = prefill_of(), (*ENDS, *LINKS)
            alike = layers * flops_of(subject, model, tp) * tp / llm_analysis_flops(model)
            why = "the layers, by our FLOPs instead of its own; without links"
        else:
            load, left_out = decode_of(), LINKS
            kv_ms = found["kv_cache_ms"]
            alike = kv_ms / 2 + (layers - kv_ms) * llm_analysis_weights(model, case["model"])
            alike += found["ends_ms"] / tp
            why = (
                "the cache moved once and not twice, weights as wide as ours, the vocabulary split "
                "over the group; without links"
            )
        own = ours_ms(subject, model, load, tp, but=left_out)
        yield _row(subject, "llm-analysis", PHASES[phase], model, load, found["ms"], tp,
                   alike=(alike, own), why=why)  # fmt: skip


def _phases(subject: Subject, file: Path) -> list[dict[str, Any]]:
    """Return the rows of a prefill of 2048 tokens and a decode step of 32 over as many."""
    return [
        row for row in json.loads(file.read_text())
        if row["precision"] == subject.base and row["tokens"] == TOKENS
        and row["batch"] == (1 if row["phase"] == "prefill" else BATCH)
        and row["tp"] in degrees_of(subject) and row["tp"] in (1, 8)
    ]  # fmt: skip


def genz(subject: Subject, folder: Path) -> Iterator[Row]:
    """One dictionary per phase."""
    python = environment("genz")
    models = {"llama-3.1-8b": "meta-llama/Llama-3.1-8B", "llama-2-70b": "meta-llama/Llama-2-70B"}
    asked = [
        {**row, "ours": row["model"], "model": models[row["model"]]}
        for row in _phases(subject, folder / "systems.json") if row["model"] in models
    ]  # fmt: skip
    answers = ask(python, "ask_genz.py", {"cases": asked})
    for case, answer in zip(asked, answers, strict=True):
        model, tp, prefill = case["ours"], case["tp"], case["phase"] == "prefill"
        load = prefill_of() if prefill else decode_of()
        # Of prompts it counts logits of every token, of decode only its look-up is a product.
        left_out = ("embed", "lm_head", *LINKS) if prefill else ("embed", *LINKS)
        alike = answer["ms"] - answer["links_ms"] - answer["embedding_ms"]
        why = "without its product for the embedding and without links"
        if prefill:
            alike -= answer["classifier_ms"] + answer["scores_ms"] * load_model(model).layers / 2
            why += ", without logits and the half of the scores that is masked"
        own = ours_ms(subject, model, load, tp, but=left_out)
        yield _row(subject, "genz", PHASES[case["phase"]], model, load, answer["ms"], tp,
                   alike=(alike, own), why=why)  # fmt: skip


def calculon(subject: Subject, folder: Path) -> Iterator[Row]:
    """Its forward pass of one prompt; alike are the matrix products of projections and MLP."""
    python, source = environment("calculon"), clone("calculon")
    asked = []
    for model in DENSE:
        shape = load_model(model)
        attention: Any = shape.layer_sequence[0].attention
        mlp: Any = shape.layer_sequence[0].mlp
        application = {
            "name": model, "hidden": shape.hidden, "feedforward": mlp.inter * 3 // 2,
            "seq_size": TOKENS, "attn_heads": attention.heads, "attn_size": attention.head_dim,
            "num_blocks": shape.layers,
        }  # fmt: skip
        asked.append({"tp": 1, "model": application, "datatype": CALCULON[subject.base]})
    answers = ask(python, "ask_calculon.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked},
                  path=source)  # fmt: skip
    products = ("Query", "Key", "Value", "Mlp1", "Mlp2", "AttnBlock_MLP")
    for model, answer in zip(DENSE, answers, strict=True):
        layers, blocks = answer["layers"], answer["blocks"]
        linear = [x for x in layers if x["matrix"] and x["name"].endswith(products)]
        own, flops = products_of(subject, model)
        alike = sum(layer["ms"] for layer in linear) * flops / sum(x["flops"] for x in linear)
        yield _row(
            subject, "calculon", TTFT, model, prefill_of(),
            blocks * sum(layer["ms"] for layer in layers), alike=(alike, own),
            why="matrix products only, scaled to our FLOPs: it has as many KV heads as heads, and "
            "writes attention's scores to memory three times",
        )  # fmt: skip


def infersim(subject: Subject, folder: Path) -> Iterator[Row]:
    """Alike are products and attention, without its scheduler's constants."""
    models = (*DENSE, "qwen3-8b")
    with tempfile.TemporaryDirectory() as place:
        work = Path(place) / "source"
        shutil.copytree(clone("infersim"), work, ignore=shutil.ignore_patterns(".git"))
        shutil.copytree(folder / "bench_data", work / "bench_data", dirs_exist_ok=True)
        asked = [
            {"config": str(folder / "models" / name / "config.json"), "tokens": TOKENS,
             "batch": BATCH} for name in models
        ]  # fmt: skip
        question = {"folder": str(folder), "label": subject.label, "cases": asked}
        answers = ask(Path(sys.executable), "ask_infersim.py", question, cwd=work)
    counted = ("qkv", "o", "attention", "gate_up", "down")
    phases = ((TTFT, prefill_of(), 30.0), (TPOT, decode_of(), 5.0))
    for model, answer in zip(models, answers, strict=True):
        for what, load, scheduler in phases:
            theirs = answer[f"{what.lower()}_ms"]
            own = ours_ms(subject, model, load, 1, only=counted)
            if what == TPOT:
                decode = folder / "bench_data" / "mha" / "decode" / subject.label
                rounding = infersim_rounding(subject, decode, model) - 1
                own += rounding * ours_ms(subject, model, load, 1, only=("attention",))
            yield _row(subject, "infersim", what, model, load, theirs,
                       alike=(theirs - scheduler, own),
                       why="products and attention only, decode attention with an mfu of three "
                       "decimals, without its 30 ms and 5 ms")  # fmt: skip


def llmservingsim(subject: Subject, folder: Path) -> Iterator[Row]:
    """Its reader and look-ups; links are its cluster's, so tp 1."""
    python, source = environment("llmservingsim"), clone("llmservingsim")
    names = {"llama-3.1-8b": "meta-llama/Llama-3.1-8B", "llama-2-70b": "meta-llama/Llama-2-70b-hf"}
    asked = [
        {"model": theirs, "ours": ours, "variant": subject.base, "tp": 1, "phase": phase,
         "tokens": TOKENS, "batch": BATCH, "layers": load_model(ours).layers}
        for ours, theirs in names.items() for phase in PHASES
    ]  # fmt: skip
    answers = ask(python, "ask_llmservingsim.py",
                  {"folder": str(folder), "label": subject.label, "cases": asked},
                  cwd=source / "serving")  # fmt: skip
    for case, answer in zip(asked, answers, strict=True):
        phase = str(case["phase"])
        load = prefill_of() if phase == "prefill" else decode_of()
        yield _row(subject, "llmservingsim", PHASES[phase], str(case["ours"]), load, answer["ms"])


def _row(
    subject: Subject, planner: str, what: str, model: str, load: Load, theirs: float,
    tp: int = 1, ep: int = 1, *, alike: tuple[float, float] | None = None, why: str = "",
) -> Row:  # fmt: skip
    ours = ours_ms(subject, model, load, tp, ep)
    return Row(
        subject.source, planner, what, model, tp, ep, theirs, ours, *(alike or (theirs, ours)), why
    )


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
    """Compare and print a table as it stands in docs/planners.md, or JSON."""
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
        listed = [{**asdict(row), "case": row.case, "difference": row.difference,
                   "alike_difference": row.alike_difference} for row in rows]  # fmt: skip
        print(json.dumps({"rows": listed, "left_out": reasons}, indent=1))
        return
    print("| planner | case | planner, ms | probe, ms | difference | counted alike |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.planner} | {row.case} | {_figure(row.planner_ms)} | "
              f"{_figure(row.plan_ms)} | {_share(row.difference)} | "
              f"{_share(row.alike_difference)} |")  # fmt: skip
    for reason in reasons.values():
        print(reason, file=sys.stderr)


def _figure(value: float) -> str:
    """Return four figures."""
    return f"{float(f'{value:.4g}'):,.10g}"


def _share(value: float) -> str:
    """Return a share in per cent with a sign, of nothing without one."""
    text = f"{value:+.1%}"
    return "0.0%" if text[1:] == "0.0%" else text.replace("-", "−")


if __name__ == "__main__":
    main()
