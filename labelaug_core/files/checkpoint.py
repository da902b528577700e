"""The state of a training run in one file, from which a killed run goes on as if it had not been killed."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from labelaug_core.files.cache import write_files
from labelaug_core.files.loading import TrainingError


class Checkpoint:
    """Model, optimiser, schedule, random generators and what training says of itself, in a file or, path None, nowhere.

    Tensors are safetensors, all else is JSON in their header. The position in the data needs no place: the order
    follows from the seed and the step. With several processes the first one writes and all read.
    """

    def __init__(
        self,
        path: Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        accelerator: Accelerator,
    ):
        self.path, self.model, self.optimizer, self.schedule = path, model, optimizer, schedule
        self.accelerator, self.device = accelerator, next(model.parameters()).device

    def save(self, said: dict, chosen: dict[str, Tensor]) -> None:
        """Write the file anew, whole or not at all. said: plain types; chosen: the weights of the best model so far.

        Raises OSError naming the file where it cannot be written.
        """
        if self.path is None:
            return
        generators = [torch.get_rng_state()]
        generators += [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        generators = [self.accelerator.gather(state.to(self.device)[None]) for state in generators]
        if not self.accelerator.is_main_process:
            return
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"chosen.{k}": v for k, v in chosen.items()}
        tensors |= {f"generator.{i}": states for i, states in enumerate(generators)}
        tensors |= {f"optimizer.{i}.{k}": v for i, state in optimizer["state"].items() for k, v in state.items()}
        said = {"said": said, "groups": optimizer["param_groups"], "schedule": self.schedule.state_dict()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        write_files({self.path: safetensors.torch.save(tensors, {"json": json.dumps(said)})})

    def load(self) -> tuple[dict, dict[str, Tensor]] | None:
        """Put all as it was. -> what was given to `save`; None where there is no file, or a damaged one.

        Raises TrainingError naming the file where it is the state of another model.
        """
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                said = json.loads(file.metadata()["json"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        except Exception:  # none, or damaged: safetensors raises its own kinds
            return None

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        try:
            self.model.load_state_dict(part("model"))
        except RuntimeError as error:
            raise TrainingError(f"{self.path}: the checkpoint of another model or version; delete it") from error
        params, state = [p for group in self.optimizer.param_groups for p in group["params"]], {}
        for name, value in part("optimizer").items():
            i, key = name.split(".")
            like = params[int(i)]
            if value.shape == like.shape:  # in the parameter's layout, which the fused optimiser asks for
                value = torch.empty_like(like).copy_(value)
            state.setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": said["groups"]})
        self.schedule.load_state_dict(said["schedule"])
        rank, generators = self.accelerator.process_index, part("generator")
        torch.set_rng_state(generators["0"][rank])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(generators["1"][rank], self.device)
        return said["said"], part("chosen")
