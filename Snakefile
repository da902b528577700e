# The batch: one papermill run a cell, then the notebooks that make tables and figures out of the records.
#   snakemake --cores 2 cells report --config profile=toy [group=critters]
# A cell is run when a seed of it has no valid record; records, not file times, decide that. On a cluster:
#   snakemake --profile notebooks/profiles/slurm cells --config profile=paper
import json
import shutil
import sys
from pathlib import Path

from companion.records import profiles, store

PROFILE = config.get("profile", "toy")
GROUP = config.get("group") or None
SPEC = profiles.load_profile(PROFILE)
PART = config.get("part", "cells")  # or beyond; tuning: seeds of its own; verify: first seeds, once more
RESULTS = Path(config.get("results") or "results") / PROFILE / (PART if PART == "tuning" else "")
FIRST = {"verify": [0], "tuning": [100, 101, 102]}.get(PART)
if PART == "verify":
    RESULTS = Path(config["out"])
    CELLS = store.recorded_cells(PROFILE, GROUP, int(config.get("cells") or 0))
else:
    PARTS = {"cells": ["cells", "ablations"]}.get(PART, [PART])
    CELLS = {  # a group that `needs` data that few have is run when it is asked for
        profiles.cell_name(**c): c for part in PARTS for c in profiles.cells(PROFILE, GROUP, part)
        if GROUP or "needs" not in SPEC["groups"][c["group"]]
    }
if "trials" in SPEC and "-" in PROFILE and config.get("cells"):  # a trial of so many cells a group, the joined first
    def joined_first(cell):
        return (cell["dataset"] != "fusion", cell["method"] != "label-aug", bool(cell["option"]))
    CELLS = {
        n: c for g in SPEC["groups"]
        for n, c in sorted(((n, c) for n, c in CELLS.items() if c["group"] == g), key=lambda x: joined_first(x[1]))[
            : int(config["cells"])
        ]
    }
SEEDS = {name: FIRST or list(range(profiles.seed_count(PROFILE, c))) for name, c in CELLS.items()}
TODO = [
    name for name, c in CELLS.items()
    if store.missing_seeds(RESULTS, name, profiles.cell_settings(PROFILE, **c), SEEDS[name])
]
if workflow.is_main_process:  # a job of a cluster reads this file, too, while others finish
    for name in TODO:
        (RESULTS / "cells" / f"{name}.done").unlink(missing_ok=True)
REPORTS = {n: outputs for n, outputs in SPEC["reports"].items() if n.startswith("4") == (PART == "beyond")}
GPU = (  # of the GPUs (that a cluster gives) the first that no other cell of this user holds; none: they are shared
    "held=; n=0; for gpu in $(echo ${{CUDA_VISIBLE_DEVICES:-$(nvidia-smi --query-gpu=index --format=csv,noheader)}} | tr , ' '); do "
    '{{ exec {{lock}}>"${{TMPDIR:-/tmp}}/labelaug-gpu-$UID-$gpu"; }} && flock -n $lock && held=$held,$gpu '
    f"&& [ $((n += 1)) = {SPEC['gpu']} ] && break; done; "
    '[ -z "$held" ] || export CUDA_VISIBLE_DEVICES=${{held#,}}; '
) if SPEC.get("gpu") and shutil.which("nvidia-smi") else ""
RUN = "TQDM_DISABLE=1 OMP_NUM_THREADS=1 papermill --no-progress-bar --log-level ERROR"
QUIET = "2> >(sed '/IPKernelApp.*encryption/d' >&2)"  # a kernel's remark at every start
PART_WAY = "{log.notebook:q}.$$.partial.ipynb"  # papermill writes as it goes; $$: one that outlived a kill has its own
WHOLE = f"&& code=0 || code=$?; [ $code -gt 128 ] || mv -f {PART_WAY} {{log.notebook:q}}; exit $code"  # 128: killed
if workflow.is_main_process:
    done = len(CELLS) - len(TODO)
    say = f"{len(TODO)} to run" if TODO else "nothing to be done"
    print(f"{PROFILE}, {PART}: {done} of {len(CELLS)} cells are recorded, {say}", file=sys.stderr)


rule cells:
    input: expand(str(RESULTS / "cells" / "{cell}.done"), cell=TODO)


rule train_cell:
    output: touch(str(RESULTS / "cells" / "{cell}.done"))
    log: notebook=str(RESULTS / "cells" / "{cell}.ipynb")  # a log is kept when the run fails
    params:
        yaml=lambda w: json.dumps(  # JSON is YAML, whatever the names hold
            {**CELLS[w.cell], "profile": PROFILE, "seeds": SEEDS[w.cell], "results_folder": str(RESULTS.resolve())}
        ),
    threads: 1
    resources: gpu=SPEC.get("gpu", 0)
    shell: GPU + RUN + f" notebooks/20_train_cell.ipynb {PART_WAY} -y {{params.yaml:q}} {QUIET} {WHOLE}"


rule report:
    input: [f for outputs in REPORTS.values() for f in outputs]


def made_from(wildcards):
    """A report is made anew when a record, also one of the tuning, is newer than it."""
    return sorted(str(p) for p in RESULTS.glob("**/runs/*.json"))


for notebook, outputs in REPORTS.items():
    rule:
        name: f"report_{notebook}"
        input: [f for n, o in REPORTS.items() if n != notebook for f in o] if notebook == "90_report" else made_from
        output: [update(f) for f in outputs]
        log: notebook=str(RESULTS / "cells" / f"{notebook}.ipynb")
        priority: {"10": 2, "21": 2, "30": 1, "31": 1}.get(notebook[:2], 0)  # the longest first
        params:
            notebook=f"notebooks/{notebook}.ipynb", yaml=json.dumps({"profile": PROFILE}),
        shell: RUN + f" {{params.notebook:q}} {PART_WAY} -y {{params.yaml:q}} {QUIET} {WHOLE}"
