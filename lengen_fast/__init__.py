"""lengen_fast: trained on short strings, will this transformer be right on long ones?

import lengen_fast as lf
task = lf.task("binary_majority")
model_config, train_config = lf.default_configs(task, "nope")
run = lf.train(model_config, task, train_config)
print(lf.evaluate(run.model, task, lengths=[(1, 50), (101, 150), 4096])[4096].exact)
"""

from lengen_fast import layers, positions, theory
from lengen_fast.data import Batch, Stream
from lengen_fast.evaluation import Accuracy, AccuracyTable, evaluate
from lengen_fast.interop import from_gpt2, to_gpt2
from lengen_fast.lengths import Pair
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.ops import DistanceBias, attention, bias, embed, log_n_scale
from lengen_fast.published import published
from lengen_fast.runs import RunDirectory, RunError
from lengen_fast.tasks import Language, Task, language, task, task_from_function, tasks, word_problem
from lengen_fast.theory import predict
from lengen_fast.training import Interrupted, Run, TrainConfig, TrainingDiverged, default_configs, train

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "AccuracyTable",
    "Batch",
    "DistanceBias",
    "Interrupted",
    "Language",
    "ModelConfig",
    "Pair",
    "Run",
    "RunDirectory",
    "RunError",
    "Stream",
    "Task",
    "TrainConfig",
    "TrainingDiverged",
    "Transformer",
    "attention",
    "bias",
    "default_configs",
    "embed",
    "evaluate",
    "from_gpt2",
    "language",
    "layers",
    "log_n_scale",
    "positions",
    "predict",
    "published",
    "task",
    "task_from_function",
    "tasks",
    "theory",
    "to_gpt2",
    "train",
    "word_problem",
]
