"""One cell of a table: load its data, train one seed, and say everything about the run in a record."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from dataclasses import dataclass, field, fields, replace
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import PartialState, notebook_launcher
from accelerate.utils import patch_environment
from torch import nn

from companion.controls import controlled
from companion.datasets import critters_encoder
from companion.heads.baselines import pseudo_label
from companion.methods import METHODS
from companion.records import store
from companion.records.profiles import ROOT, RecordError, load_profile, short_hash
from companion.scoring import scoring_of
from labelaug_core.data import Split, Task
from labelaug_core.encoders import Identity, build_encoder
from labelaug_core.files.cache import cache_folder, cached_features, write_files
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import PathSettings
from labelaug_core.training import Classifier, TrainingSettings, hold_out, predict, to_tensor, train

try:
    import resource
except ImportError:  # not on Windows
    resource = None


@dataclass(frozen=True)
class Fitted:
    """A trained model, the task that it was trained on (its graph, its training part), its validation part, history.

    clock: seconds of each step, first those in which it waited for its inputs, then all of them.
    """

    model: Classifier
    task: Task
    val: Split
    history: list[dict]
    clock: list[tuple[float, float]] = field(default_factory=list)


def check_settings(settings: dict) -> None:
    """Raises RecordError naming every training or head setting that there is not, or whose value is of another kind."""
    training = {f.name: f.default for f in fields(TrainingSettings)}
    head = {f.name: f.default for f in fields(PathSettings)} | {"graph": "full", "share": 0.1}
    parts = (("training", training), ("finetune", training), ("head", head))
    unknown = [f"{part}: {key!r}" for part, known in parts for key in settings.get(part, {}) if key not in known]
    if unknown:
        rule = f"training settings are {', '.join(training)}; head settings are {', '.join(head)}"
        raise RecordError(f"no such setting: {', '.join(unknown)}; {rule}")
    wrong = [
        f"{part}: {key} = {value!r}"
        for part, known in parts
        for key, value in settings.get(part, {}).items()
        if not same_kind(value, known[key])
    ]
    if wrong:
        raise RecordError(f"a setting has a value of another kind: {', '.join(wrong)}")


def same_kind(value, default) -> bool:
    """May this value replace this default? A number for a number (or for None), a text for a text, a truth value."""
    if default is None or isinstance(default, (int, float)) and not isinstance(default, bool):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (
            number and (isinstance(value, int) or not isinstance(default, int)) or (default is None and value is None)
        )
    return isinstance(value, type(default))


def load_task(settings: dict) -> Task:
    """The data of a cell, as features where its encoder is frozen (encoded once, cached).

    Where the encoder's last stage is trained the inputs are the activations before it, and Task.head_first is the
    same task as frozen features. Controls that are drawn with the seed (companion.controls) are left to `fit_cell`.
    Raises RecordError for an unknown setting, DataError for data that are missing.
    """
    check_settings(settings)
    module = import_module(f"companion.datasets.{settings['source']}")
    task = module.load(load_graph(settings["source"]), settings["data"])
    if not settings["data"].get("join"):
        task = task.fine_only()
    if few := settings["data"].get("few"):
        task = with_few(task, few)
    tune = settings["encoder"].get("tune")
    if tune in ("frozen", "last"):
        whole = pretrained(settings["encoder"])
        features = encoded(task, whole)
        if tune == "last":
            activations = encoded(task, whole.before_last(settings["data"]), np.float16)
            features = replace(activations, head_first=features)
        task = features
    return task


def pretrained(settings: dict) -> nn.Module:
    """The frozen encoder of a group, in evaluation mode: the small CNN of the toy has learned other drawings."""
    encoder = build_encoder(settings)
    return (critters_encoder.load_weights(encoder) if settings["name"] == "small-cnn" else encoder).eval()


def with_few(task: Task, n: int) -> Task:
    """The task with the first n samples of each class in each part, for a trial (several labels a sample: all)."""
    found = {}
    for part in ("train", "test", "coarse"):
        split = getattr(task, part)
        if split is not None and split.y.ndim == 1:
            found[part] = split.take(np.sort(np.concatenate([np.flatnonzero(split.y == k)[:n] for k in set(split.y)])))
    return replace(task, **found, content_hash=f"{task.content_hash}-few{n}")


def encoded(task: Task, encoder, dtype: type = np.float32) -> Task:
    """The task with what the encoder makes of its inputs in their place."""
    found = {}
    for part in ("train", "test", "coarse"):
        split = getattr(task, part)
        if split is not None:
            inputs = cached_features(encoder, split.inputs, f"{task.content_hash}-{part}", dtype=dtype)
            found[part] = replace(split, inputs=inputs)
    return replace(task, **found)


def fit_cell(settings: dict, task: Task, seed: int) -> Fitted:
    """Train one seed of a cell on the task of `load_task`: first the cell's controls of data, then its method.

    With the setting `checkpoint` a run that was killed goes on from its last evaluation: its state is kept in
    cache_folder() until the training has ended.
    Raises RecordError for an unknown setting, DataError where the method cannot be trained on the task.
    """
    check_settings(settings)
    folder = None
    if settings["training"].get("checkpoint"):
        folder = cache_folder() / f"checkpoint-{run_hash(settings, task, seed)}"
    fitted = fit_method(settings, controlled(task, settings["data"], seed), seed, folder)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return fitted


def run_hash(settings: dict, task: Task, seed: int) -> str:
    """What decides the weights of a run, but the code, as a part of a file's name."""
    return short_hash([settings, seed, task.content_hash, torch.__version__])


def fit_method(settings: dict, task: Task, seed: int, folder: Path | None = None) -> Fitted:
    """Train one seed of a method on a task as it is; folder: where the states of its trainings are kept, if they are.

    Pseudo Labels first train an FFN of the same kind on the fine data, whose guesses label the coarse images. Where
    the encoder's last stage is trained, trunk and head first are those of the frozen arm of the same seed; then all
    is trained together with the settings `finetune`.
    """
    method, training = METHODS[settings["method"]], TrainingSettings(**settings["training"])
    if method.head == "hiclass":
        return fit_hiclass(settings, task, seed)
    fine_part, val = hold_out(task.train, training.val_fraction, seed)
    used = replace(task, train=fine_part)
    if settings["method"] == "pseudo-labels":
        teacher = fit_method(settings | {"method": "ffn"}, task.fine_only(), seed, folder).model
        used = pseudo_label(used, predict(teacher, task.coarse)["log_probs"])
    model, used = build(settings, used, seed)
    if task.head_first is not None:
        frozen = settings | {"encoder": settings["encoder"] | {"tune": "frozen"}}
        start = fit_method(frozen, task.head_first, seed, folder).model
        model.trunk.load_state_dict(start.trunk.state_dict())
        model.head.load_state_dict(start.head.state_dict())
        training = replace(training, **settings["finetune"])
    scoring = scoring_of(task, method)
    kept = folder and folder / f"{settings['method']}-{settings['encoder'].get('tune')}.safetensors"
    clock: list[tuple[float, float]] = []
    model, history = train(model, used, val, training, seed, scoring.score, scoring.criterion, kept, clock)
    return Fitted(model, used, val, history, clock)


def build(settings: dict, task: Task, seed: int) -> tuple[Classifier, Task]:
    """The cell's model, untrained, its weights drawn with the seed, and the task on the graph of its method."""
    method, tune = METHODS[settings["method"]], settings["encoder"].get("tune")
    torch.manual_seed(seed)
    make_head, used = scoring_of(task, method).build_head(method, task, settings["head"], seed)
    if tune == "frozen":
        encoder = Identity(task.train.inputs[np.arange(1)].shape[1])
    else:
        encoder = build_encoder(settings["encoder"])
        encoder = encoder.last() if tune == "last" else encoder
    return Classifier(encoder, make_head, TrainingSettings(**settings["training"])), used


@torch.no_grad()
def fit_hiclass(settings: dict, task: Task, seed: int) -> Fitted:
    """`hiclass` on the features of the frozen encoder, or, where the encoder is trained, on those that the FFN of the
    same seed has learned; there is no trunk."""
    fine_part, val = hold_out(task.train, settings["training"]["val_fraction"], seed)
    used = replace(task, train=fine_part)
    model, used = build(settings, used, seed)
    if settings["encoder"].get("tune") != "frozen":
        with torch.enable_grad():
            model.encoder = fit_method(settings | {"method": "ffn"}, task.fine_only(), seed).model.encoder
    model.trunk = nn.Identity()
    parts = [used.train] if used.coarse is None else [used.train, used.coarse]
    model.head.fit(torch.cat([features(model, p) for p in parts]), np.concatenate([p.y for p in parts]))
    scores = scoring_of(task, METHODS["hiclass"]).score(predict(model, val), val.y)
    return Fitted(model, used, val, [{"step": 0, **scores, "chosen": True}])


@torch.no_grad()
def features(model: Classifier, split: Split, batch: int = 256) -> torch.Tensor:
    """What encoder and trunk make of every sample: [N, d]."""
    model.eval()
    device = next(model.parameters()).device
    rows = [np.arange(i, min(i + batch, len(split))) for i in range(0, len(split), batch)]
    return torch.cat([model.features(to_tensor(split, r, device)) for r in rows])


def run_seed(settings: dict, task: Task, seed: int) -> tuple[dict, dict[str, np.ndarray], Classifier]:
    """-> (run, predictions, model): everything of one seed but its place on disk (companion.records.store.add)."""
    start, method = time.perf_counter(), METHODS[settings["method"]]
    fitted = fit_cell(settings, task, seed)
    used, val, scoring = fitted.task, fitted.val, scoring_of(fitted.task, method)
    found, val_found = predict(fitted.model, used.test), predict(fitted.model, val)
    metrics = scoring.measure(found, used.test.y, val_found, val.y)
    run = {
        "data": {
            "content_hash": task.content_hash,
            "sizes": used.sizes,
            "n_train": len(used.train),
            "n_val": len(val),
            "n_coarse": len(used.coarse) if used.coarse is not None else 0,
            "n_test": len(used.test),
        },
        "history": fitted.history,
        "validation": next(row for row in fitted.history if row.get("chosen")),
        "test": metrics,
        "decode": method.decode,
        "seconds_a_step": seconds_a_step(fitted.clock),
        "wall_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": resource and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
        **environment(),
    }
    return run, scoring.keep(found, used.test.y, metrics, used.test.truth), fitted.model


def record_seeds(results: Path, name: str, settings: dict, task: Task, seeds: list[int]) -> None:
    """Train these seeds; each is in the cell's record when it has ended. Of several processes the first one writes."""
    for seed in seeds:
        run, predictions, _ = run_seed(settings, task, seed)
        if PartialState().is_main_process:
            store.add(results, name, settings, seed, run, predictions)
            chosen = run["validation"]
            print(f"seed {seed}: validation {chosen['val_accuracy']:.3f} at step {chosen['step']}", flush=True)


def gpus(profile: str, settings: dict) -> int:
    """How many GPUs train a cell: as many as the profile's `gpu` says and are visible, at least 1 (or the CPU).

    Features that are computed once are computed in this process, which then cannot start others on a GPU: 1.
    """
    if settings["training"].get("cpu") or settings["encoder"].get("tune") in ("frozen", "last"):
        return 1
    return max(1, min(load_profile(profile).get("gpu", 0), torch.cuda.device_count()))


def record_cell(results: Path, name: str, settings: dict, task: Task, seeds: list[int], processes: int) -> None:
    """`record_seeds` by one process, or by several that share each batch: on a GPU each, or all on the CPU.

    Raises ValueError where several are asked for and this session has used Accelerate already, and torch's
    ChildFailedError, which shows the error of the process that failed.
    """
    given = (results, name, settings, task, seeds)
    if processes == 1 or not seeds:
        return record_seeds(*given)
    on_cpu = settings["training"].get("cpu", False) or not torch.cuda.device_count()
    port = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}  # any free one: other cells train beside this one
    with patch_environment(accelerate_use_cpu=str(on_cpu)):
        notebook_launcher(record_seeds, given, processes, **port)


def seconds_a_step(clock: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of Fitted.clock without the first step, which also starts the workers: waiting for `data`, and `all`."""
    found = np.median(np.reshape(clock[1:] or clock or [(0.0, 0.0)], (-1, 2)), axis=0)
    return {"data": round(float(found[0]), 4), "all": round(float(found[1]), 4)}


def trained(settings: dict, seed: int) -> tuple[Classifier, Task]:
    """A cell's model and the task it was trained on.

    Its weights are kept in cache_folder(), under the hash of settings, seed, data and torch's version, so that a
    figure is made again without training; an unreadable file is made anew. Delete it after a change of the code.
    """
    task = load_task(settings)
    path = cache_folder() / f"model-{run_hash(settings, task, seed)}.safetensors"
    given = controlled(task, settings["data"], seed)
    fine, _ = hold_out(given.train, settings["training"]["val_fraction"], seed)
    model, used = build(settings, replace(given, train=fine), seed)
    try:
        model.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except Exception:  # none, damaged, or of another form: safetensors and torch each raise their own kinds
        fitted = fit_cell(settings, task, seed)
        model, used = fitted.model, fitted.task
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        write_files({path: safetensors.torch.save(weights)})
    return model, used


def seconds(settings: dict, task: Task, steps: int = 20) -> float:
    """Seconds of training on this machine, now: `steps` of them timed, the rest in proportion (hiclass: all of it)."""
    whole, start = settings["training"]["steps"], time.perf_counter()
    if METHODS[settings["method"]].head == "hiclass":
        steps = whole
    fit_cell(settings | {"training": settings["training"] | {"steps": steps, "eval_every": steps}}, task, 0)
    return (time.perf_counter() - start) * whole / steps


def environment() -> dict:
    """Device, versions and git commit of a run; what cannot be found is "unknown"."""
    cuda, processes = torch.cuda.is_available(), PartialState().num_processes
    versions = {p: metadata.version(p) for p in ("torch", "numpy", "timm", "accelerate", "scikit-learn")}
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # there is no git here
        commit = ""
    device = torch.cuda.get_device_name() if cuda else f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    return {
        "device": f"{processes} x {device}" if processes > 1 else device,
        "versions": versions | {"python": platform.python_version()},
        "git_commit": commit or "unknown",
    }
