"""StudyConfig: all that a person can say about a study. The flags of study/run.py are its fields."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trainables
from data import places, plugins, source, spec
from study.search.rungs import FEWEST_REPORTS
from study.search.storage_url import StorageURL
from trainables import typed_config
from trainables.objectives import goals

IDENTITY = (
    *("model", "data", "size", "preset", "steps", "reports", "validation_images", "metric", "seed"),
    *("sampler", "pruner", "precision", "micro_batch", "set", "space", "storage"),
    "data_fraction",
    "compile",
)
"""Keys that make a study what it is: a study is only continued with the same values."""

LARGEST_IMAGE = 1024
"""Pixels of a side. The models are made for 128; the published images have 320 by 240."""

LARGEST_COUNT = 10**9
"""Of trials, steps and the like; larger numbers are a slip of the keyboard."""

SMALLEST_SHARE = 0.1
"""Of a CPU core or a GPU."""

LOGS = ("wandb", "mlflow")
"""What ``log`` may name: packages, and extras of setup.cfg."""

REMOTE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
"""Schemes of the URIs that pyarrow opens."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: one model tuned on one data set."""

    model: str
    """which model to tune, e.g. space; several, space,gnm, or all: one study each, then a leaderboard of them"""
    trials: int = 50
    """trials of the study; the same command with a larger number continues it"""
    data: str = source.DEFAULT
    """data set, NAME[:VARIANT][-crop][-(H,W)]: 'clevrtex:full-crop-(128,128)', 'synthetic:0.4-(64,64)', ..."""
    scenes: int | None = None
    """scenes to train on, where they are drawn; in the spec: 'synthetic:0.4-50000scenes' [default: 4000]"""
    data_fraction: float | None = None
    """share of the training split to train on, the same images for every seed; val and test stay whole [default: 1]"""
    data_root: str | None = None
    """folder that holds the published files, e.g. the parent of clevrtex_full"""
    cache: str | None = None
    """folder for converted shards [default: ~/.cache/clevrtune]"""
    preset: Literal["auto", "paper", "tiny"] = "auto"
    """paper: the published configuration at 128x128; tiny: a small one for CPUs; auto: paper where there is a GPU"""
    steps: int | None = None
    """training steps of a full trial [default: the preset's]"""
    metric: str = "mIoU_fg"
    """objective on validation: mIoU_fg, ARI_FG, MSE or loss; mIoU_fg,seconds or mIoU_fg,parameters: a Pareto front"""
    sampler: Literal["auto", "prior", "tpe", "random", "cmaes", "gp", "nsga2"] = "auto"
    """how hyperparameters are proposed; prior begins around the preset, then is gp, after 200 trials tpe; all others
    are Optuna's, but that gp learns from stopped trials too; auto: prior, with two goals tpe"""
    pruner: Literal["auto", "asha", "halving", "hyperband", "median", "none"] = "auto"
    """asha: trials pause at 1/27, 1/9, 1/3 of their steps, and the best third go on; auto: asha, with two goals none"""
    set: dict[str, Any] = field(default_factory=dict)
    """fix a hyperparameter instead of searching it; may be repeated"""
    space: list[str] = field(default_factory=list)
    """search these ranges instead of the model's: lr=1e-4..1e-2, batch_size=16,32, a YAML or a Python FILE; may be
    repeated"""
    from_: list[str] = field(default_factory=list)
    """folder of an earlier study of this model, whose best trials are proposed first; may be repeated"""
    seed: int = 0
    """seed of the sampler and of every trial"""
    concurrent: int | None = None
    """trials at a time [default: as many as the resources allow]"""
    workers_per_trial: int = 1
    """processes that train one trial together, each on its share of a batch; on GPUs, one each"""
    cpus: float = 1.0
    """CPU cores per worker of a trial; fractions allowed"""
    gpus: float | None = None
    """GPUs per worker; a trial's only worker may have a share [default: 1 with the paper preset and a GPU, else 0]"""
    hours: float | None = None
    """stop after this many hours; the same command continues the study"""
    keep_checkpoints: int | None = None
    """newest checkpoints that each trial keeps, in case one is damaged [default: 1, and 2 while it runs]"""
    trial_timeout: float | None = None
    """minutes without a report after which a trial's worker is ended: it goes on from its checkpoint, once [default:
    ten times the study's median report, at least 30]"""
    patience: float | None = None
    """end the search after so many full trials' worth of steps without an improvement beyond the noise of a score"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 trains under autocast; sensitive parts stay in fp32"""
    micro_batch: int | None = None
    """images per forward pass of a worker; gradients are accumulated to the full batch [default: the full batch]"""
    compile: bool = False
    """train under torch.compile: some minutes of compiling per shape, then faster steps on GPUs"""
    reports: int | None = None
    """validations per full trial [default: 27 with the paper preset, 6 with tiny]"""
    validation_images: int = 1000
    """images of the validation split that a report is computed on, at most"""
    finalists: int | None = None
    """best trials that the final stage retrains and scores on test, OOD and CAMO [default: 3, tiny preset 2]"""
    seeds: int | None = None
    """fresh seeds for each finalist and the base; 1 scores the search's own checkpoints [default: 3, tiny preset 2]"""
    draws: int = 1
    """draws of noise over which the final stage takes the mean scores of models that draw it"""
    curve: bool | None = None
    """score the winner on other variants, too, such as all strengths of texture [default: where scenes are drawn]"""
    plugins: str | None = None
    """folder of your own with trainables/NAME.py and search_spaces/NAME.py, data/sources/NAME.py or
    trainables/own_metrics/NAME.py, which are found as if they were ours"""
    name: str | None = None
    """name of the study, a folder in --results [default: model-data-preset]"""
    results: str = "results"
    """folder of all studies"""
    storage: str | None = None
    """Optuna storage URL; its password is better in CLEVRTUNE_STORAGE_PASSWORD [default: a journal file]"""
    address: str | None = None
    """address of a running Ray cluster, or auto [default: a Ray of its own on this machine]"""
    log: list[str] = field(default_factory=list)
    """send the numbers of every report to wandb or mlflow, too, a package of that name; may be repeated"""
    profile: bool = False
    """profile a few steps of trial 0: a trace for Perfetto and TensorBoard, and the ten costliest operations"""
    fresh: bool = False
    """remove a study of the same name and start over"""
    dry_run: bool = False
    """print configuration, search space, parameters and expected time, run one step, and stop"""

    def __post_init__(self) -> None:
        """Raise ValueError for values that no study can have."""
        if self.plugins is not None:
            object.__setattr__(self, "plugins", plugins.use(self.plugins))
        object.__setattr__(self, "model", trainables.resolve(self.model))
        data = spec.parse(self.data)
        if self.scenes is not None and 0 < self.scenes <= LARGEST_COUNT:  # others are refused below
            data = data.with_scenes(self.scenes)
            object.__setattr__(self, "scenes", None)  # the spec has it now
        object.__setattr__(self, "data", str(data))
        if data.source.drawn and data.source.counts(data.variant).get("train", 0) > LARGEST_COUNT:
            raise ValueError(f"--data {data}: {LARGEST_COUNT:,} scenes are the most")
        if data.size and data.size[0] != data.size[1]:
            raise ValueError(f"--data {data}: the models take square images; write the size as (n,n)")
        if data.size and data.size[0] > LARGEST_IMAGE:
            raise ValueError(f"--data {data}: images have at most {LARGEST_IMAGE} pixels a side; give a smaller size")
        if self.curve and not data.source.curve(data.variant):
            raise ValueError(f"--curve: {data.name} has no other variants to score the winner on; leave it out")
        if self.storage is not None:
            object.__setattr__(self, "storage", StorageURL(self.storage))
        object.__setattr__(self, "metric", ",".join(goals(self.metric)))
        if self.profile and "seconds" in self.goals:
            raise ValueError("--profile makes trial 0 slower, and --metric names seconds; leave one of the two out")
        if self.compile and "seconds" in self.goals:
            raise ValueError("--compile takes time of some trials and not of others; leave it or the goal seconds out")
        if self.sampler == "auto":
            object.__setattr__(self, "sampler", "tpe" if len(self.goals) > 1 else "prior")
        if self.pruner == "auto":
            object.__setattr__(self, "pruner", "none" if len(self.goals) > 1 else "asha")
        if len(self.goals) > 1:
            self._check_two_goals()
        durations = ("hours", "patience", "trial_timeout")  # as long as you like
        counts = (
            *("scenes", "trials", "steps", "concurrent", "workers_per_trial", "micro_batch", "reports"),
            *("validation_images", "finalists", "seeds", "draws", "keep_checkpoints"),
        )
        for key in (*counts, "cpus", *durations):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"--{key.replace('_', '-')} is {value}; it must be above zero")
            if value is not None and key not in durations and value > LARGEST_COUNT:
                raise ValueError(f"--{key.replace('_', '-')} is {value}; {LARGEST_COUNT:,} is the most")
        if self.data_fraction is not None and not 0 < self.data_fraction <= 1:
            raise ValueError(
                f"--data-fraction is {self.data_fraction}; it must be above 0 and at most 1: 0.1 is a tenth"
            )
        if self.data_fraction == 1:
            object.__setattr__(self, "data_fraction", None)  # as in studies from before there was such a flag
        if self.cpus < SMALLEST_SHARE:
            raise ValueError(f"--cpus is {self.cpus}; it must be {SMALLEST_SHARE} or more, or trials crowd the cores")
        if self.gpus is not None and not (self.gpus == 0 or SMALLEST_SHARE <= self.gpus <= LARGEST_COUNT):
            raise ValueError(f"--gpus is {self.gpus}; it must be zero, or {SMALLEST_SHARE} or more")
        if self.workers_per_trial > 1 and self.gpus not in (None, 0, 1):
            raise ValueError(
                f"--gpus is {self.gpus:g} with --workers-per-trial {self.workers_per_trial}; "
                "workers that train one trial need a GPU each: set it to 1, or to 0 for CPUs"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed is {self.seed}; it must be zero or more, and below 2**63")
        if self.reports is not None:
            self._check_reports(self.reports)
        if self.sampler in ("cmaes", "nsga2") and self.pruner != "none":
            raise ValueError(
                f"--sampler {self.sampler} learns from complete trials only, and --pruner {self.pruner} leaves few; "
                "add --pruner none, or take --sampler tpe"
            )
        if self.address is not None and self.address.startswith(("ray://", "http://", "https://")):
            raise ValueError(
                f"--address {self.address} is not where a study can run; use --address auto on a node of the cluster, "
                "or send the study there: python study/submit.py --address http://HEAD:8265 -- --model ..."
            )
        self._check_texts()
        if "://" in self.results:
            raise ValueError(f"--results {self.results}: give a folder on a disk that all nodes share")
        if "://" in (self.data_root or ""):
            raise ValueError(
                f"--data-root {places.shown(str(self.data_root))}: published files are read from a disk; convert them "
                "there once (data/convert.py --cache s3://...), then give that --cache alone"
            )
        if self.name is not None and ("/" in self.name or not self.name[:1].isalnum()):
            raise ValueError(f"--name {self.name!r} must be a plain folder name that begins with a letter or a digit")
        if (self.name or "").endswith("-finalists"):
            raise ValueError(f"--name {self.name}: the ending -finalists is for final stages; choose another")
        object.__setattr__(self, "log", [name.strip() for entry in self.log for name in entry.split(",")])
        if strange := [name for name in self.log if name not in LOGS]:
            raise ValueError(f"--log {strange[0]} is unknown; choose {' or '.join(LOGS)}")
        if self.set:
            object.__setattr__(self, "set", self._typed_set())
        if self.space:
            object.__setattr__(self, "space", self._canonical_space())

    def _check_texts(self) -> None:
        for key in ("name", "results", "cache", "data_root", "storage", "address"):
            value = getattr(self, key)
            flag = f"--{key.replace('_', '-')}"
            if value is not None and not value.strip():
                raise ValueError(f"{flag} is empty; give a value, or leave {flag} out")
            if value is not None and not value.isprintable():
                raise ValueError(f"{flag} {value!r} has a line break or another character that cannot be printed")
        scheme, separator, place = (self.cache or "").partition("://")
        if separator and not (scheme in REMOTE and place.strip("/")):
            raise ValueError(f"--cache {self.cache}: give a folder, or a URI such as s3://bucket/folder or gs://bucket")

    def _check_two_goals(self) -> None:
        if self.pruner != "none":
            raise ValueError(
                f"--pruner {self.pruner} compares trials by one goal, and --metric {self.metric} names two; "
                "leave --pruner out, or name one goal"
            )
        if self.sampler in ("prior", "cmaes"):
            raise ValueError(
                f"--sampler {self.sampler} learns from one goal, and --metric {self.metric} names two; "
                "take --sampler tpe, nsga2, gp or random"
            )
        if self.patience is not None:
            raise ValueError(
                f"--patience {self.patience:g} waits for a better score of one goal, and --metric {self.metric} names "
                "two; leave --patience out, or name one goal"
            )

    def _check_reports(self, reports: int) -> None:
        if self.steps is not None and self.steps < reports:
            raise ValueError(f"--steps {self.steps} is below --reports {reports}; a report needs a step")
        if reports < FEWEST_REPORTS and self.pruner != "none":
            raise ValueError(
                f"--reports {reports} leaves --pruner {self.pruner} nothing to compare before the end of a trial; "
                f"give {FEWEST_REPORTS} or more, or --pruner none"
            )

    def _typed_set(self) -> dict[str, Any]:
        """``set`` with the types of the model's Config; Resolved.proposal checks whether the values fit together."""
        if "steps" in self.set:
            raise ValueError("--set steps=...: the length of a trial is set with --steps")
        config_class = trainables.load(self.model).Config  # imports torch, which takes a second or two
        parsed = {
            key: typed_config.parse(config_class, key, value) if isinstance(value, str) else value
            for key, value in self.set.items()
        }
        if parsed.get("num_slots") == 1:
            raise ValueError("--set num_slots=1: background and objects need a slot each; set it to 2 or more")
        return typed_config.typed(config_class, parsed)

    def _canonical_space(self) -> list[str]:
        """``space`` as it is recorded, checked against the model's Config and ``set``."""
        from study.search import ranges  # imports Optuna, which takes a second, as the Config does

        entries = ranges.canonical(self.space, trainables.load(self.model).Config)
        for key in map(ranges.key_of, entries):
            if key in self.set:
                raise ValueError(
                    f"--set {key} and --space {key}: a fixed hyperparameter has no range; give one of them"
                )
        return entries

    @property
    def goals(self) -> tuple[str, ...]:
        """What ``metric`` names: the objective on the validation split, and the second goal if there is one."""
        return goals(self.metric)

    @property
    def draws_curve(self) -> bool:
        """Whether the final stage scores the winner on other variants, too."""
        return spec.is_drawn(self.data) if self.curve is None else self.curve

    def folder(self, preset: str) -> Path:
        """The study's folder, with ``preset`` in place of auto."""
        if self.name is not None:
            return Path(self.results) / self.name
        name = f"{self.model}-{self.data}-{preset}".translate(str.maketrans(":(),", "----"))
        return Path(self.results) / name.replace("--", "-").strip("-")

    @property
    def again(self) -> str:
        """What to type to go on with a study, for people."""
        return "the same command without --fresh" if self.fresh else "the same command"

    def identity(self, preset: str, steps: int, size: int) -> dict[str, Any]:
        """The values of :data:`IDENTITY`, with what ``auto`` and the defaults came to, ready for JSON."""
        resolved = dataclasses.asdict(self) | {"preset": preset, "steps": steps, "size": size}
        resolved["compile"] = self.compile or None  # as in studies from before there was such a flag
        # Of a Python file the name: its content is told by the ranges and a hash. None is what older studies have.
        resolved["space"] = [Path(e).name if e.endswith(".py") else e for e in self.space] or None
        return {key: resolved[key] for key in IDENTITY}
