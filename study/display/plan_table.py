"""A plan in words and figures, for people."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from study.cluster.estimate import DRIVER_SECONDS, GATHER_BYTES, HIGH, REMEDIES, VALIDATION_SHARE, Machines, Plan, Step
from study.display.durations import duration
from study.display.plain_lines import say

if TYPE_CHECKING:
    from study.presets import Resolved


def show(study: "Resolved", machines: Machines, step: Step, plan: Plan, console: Console) -> None:
    """Print ``plan`` of ``study`` on ``machines``, and what it was made from."""
    asked = study.config
    device = "GPU" if machines.gpus else "core"
    each, workers = asked.gpus or asked.cpus, asked.workers_per_trial
    whole_study = _hours(plan.hours, step)
    lines = {
        "the study": f"{asked.trials} trials of {asked.model} on {study.data}, {study.preset} preset, "
        f"{study.steps:,} steps",
        "the cluster": f"{_count(machines.devices, device)} on {_count(len(machines.nodes()), 'node')}; "
        f"{_count(plan.at_a_time, 'trial')} at a time, {_count(each * workers, device)} each",
        "one step": f"{step.seconds:.3g} s for a batch of {step.batch} ({step.origin})",
        "one full trial": _hours(plan.trial_hours, step)
        + (f", if {workers} workers are {workers} times as fast" if workers > 1 else "")
        + (f", if {each:g} of a {device} is {each:g} times as fast as all of it" if each < 1 else ""),
    }
    if asked.pruner == "asha":
        lines["with early stopping"] = f"{whole_study}; {plan.share:.0%} of the steps are left (simulated)"
        lines["without"] = _hours(plan.hours_without_pruning, step)
    else:
        lines["the whole study"] = whole_study
    if study.reruns:
        lines["the final stage"] = (
            f"{_hours(plan.rerun_hours, step)} of this: {_count(study.reruns, 'rerun')} of {study.finalists} "
            f"finalists and the base with {study.seeds} seeds each"
        )
    price = ""
    if machines.price:
        price = f", {_between(plan.cluster_hours * machines.price, step)} at {machines.price:g} an hour"
    lines |= {
        "it costs": f"{_between(plan.cluster_hours, step)} {device} hours of the whole cluster{price}; trials use "
        f"{plan.device_hours / plan.cluster_hours:.0%} of them",
        "the object store": f"{plan.store_bytes / 1e9:.3g} GB of images and labels, once on each node",
        "how exact": f"a range is what comes out divided and multiplied by {step.within:g}",
        "assumed": "all steps take as long as one in the middle; an image in validation takes "
        f"{VALIDATION_SHARE:.0%} of one in training; the driver takes {DRIVER_SECONDS:g} s a report; "
        f"a process gathers {GATHER_BYTES / 1e9:g} GB/s",
        "not counted": "what it takes to start workers, to convert and load the data, and to score the best trials"
        + ("" if asked.pruner in ("asha", "none") else f"; nor what --pruner {asked.pruner} saves"),
    }
    for name, text in lines.items():
        say(console, f"{name + ':':21}{text}")
    table = Table("what may limit it", "load", "remedy")
    for name, load in sorted(plan.loads.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{load:.1%}", REMEDIES[name] if load > HIGH else "")
    console.print(table)
    worst = max(plan.loads, key=lambda name: plan.loads[name])
    text = worst if plan.loads[worst] > HIGH else f"the {device}s themselves: more of them, or faster ones, help"
    say(console, f"bottleneck: {text}")


def _hours(hours: float, step: Step) -> str:
    """The range around ``hours``, in words."""
    low, high = duration(3600 * hours / step.within), duration(3600 * hours * step.within)
    return low if low == high else f"{low} to {high}"


def _between(amount: float, step: Step) -> str:
    """The range around ``amount``, in two digits."""
    low, high = (float(f"{end:.2g}") for end in (amount / step.within, amount * step.within))
    return f"{low:,g} to {high:,g}" if high < 1e6 else f"{low:,.0f} to {high:,.0f}"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
