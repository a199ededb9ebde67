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
    whole_study = duration(3600 * plan.hours)
    lines = {
        "the study": f"{asked.trials} trials of {asked.model} on {study.data}, {study.preset} preset, "
        f"{study.steps:,} steps",
        "the cluster": f"{_count(machines.devices, device)} on {_count(len(machines.nodes()), 'node')}; "
        f"{_count(plan.at_a_time, 'trial')} at a time, {_count(each * workers, device)} each",
        "one step": f"{step.seconds:.3g} s for a batch of {step.batch} ({step.origin})",
        "one full trial": duration(3600 * plan.trial_hours)
        + (f", if {workers} workers are {workers} times as fast" if workers > 1 else "")
        + (f", if {each:g} of a {device} is {each:g} times as fast as all of it" if each < 1 else ""),
    }
    if asked.pruner == "asha":
        lines["with early stopping"] = (
            f"{whole_study}; {plan.share:.0%} of the steps are left (simulated; 45 to 57 % in the README's studies)"
        )
        lines["without"] = duration(3600 * plan.hours_without_pruning)
    else:
        lines["the whole study"] = whole_study
    if study.reruns:
        lines["the final stage"] = (
            f"{duration(3600 * plan.rerun_hours)} of this: {_count(study.reruns, 'rerun')} of {study.finalists} "
            f"finalists and the base with {study.seeds} seeds each"
        )
    price = f" {plan.cluster_hours * machines.price:,.2f} at {machines.price:g} an hour" if machines.price else ""
    lines |= {
        "it costs": f"{plan.cluster_hours:,.1f} {device} hours of the whole cluster,{price and price + ','} "
        f"of which trials use {plan.device_hours:,.1f}",
        "the object store": f"{plan.store_bytes / 1e9:.3g} GB of images and labels, once on each node",
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


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
