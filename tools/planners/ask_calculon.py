"""Ask calculon: run with PYTHONPATH at its clone; reads a JSON question, prints a JSON answer."""

import json
import logging
import pathlib
import sys

from calculon.llm.llm import Llm
from calculon.system import System

question = json.load(sys.stdin)
folder = pathlib.Path(question["folder"])
system_file = json.loads((folder / f"{question['label']}.json").read_text())
answers = []
for case in question["cases"]:
    tp = case["tp"]
    execution = {
        "num_procs": tp, "tensor_par": tp, "pipeline_par": 1, "data_par": 1, "tensor_par_net": 0,
        "pipeline_par_net": 0, "data_par_net": 0, "batch_size": 1, "microbatch_size": 1,
        "datatype": case["datatype"], "fused_activation": True, "attention_type": "multihead",
        "activation_recompute": "none", "pipeline_interleaving": 1, "optimizer_sharding": False,
        "tensor_par_comm_type": "ar", "tensor_par_overlap": "none", "seq_par_ag_redo": False,
        "data_par_overlap": False, "weight_offload": False, "activations_offload": False,
        "optimizer_offload": False, "training": False,
    }  # fmt: skip
    try:
        application = Llm.Application(case["model"])
        model = Llm(application, logging.getLogger("calculon"))
        model.compile(System(system_file), Llm.Execution.from_json(execution))
        layers = [
            {
                "name": layer.name,
                "flops": layer.get_fw_flops(),
                "ms": layer.compute_processing_time("fw") * 1e3,
                "matrix": layer.use_matrix_engine(),
            }
            for layer in model._llm_block
        ]
        answers.append({"blocks": case["model"]["num_blocks"], "layers": layers})
    except Exception as error:  # whatever it raises is its answer
        answers.append({"error": f"{type(error).__name__}: {error}"})
print("ANSWER " + json.dumps(answers))
