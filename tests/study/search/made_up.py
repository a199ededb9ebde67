"""A made-up search space, and results as trials report them."""

SEARCHED = ("lr", "optimizer", "momentum")
BASE = {"lr": 0.01, "optimizer": "adam", "momentum": 0.0, "image_size": 32}


def space(trial, base):
    """Around the base; momentum only with one optimizer."""
    values = {"lr": trial.suggest_float("lr", base["lr"] / 10, base["lr"] * 10, log=True)}
    values["optimizer"] = trial.suggest_categorical("optimizer", ["adam", "rmsprop"])
    if values["optimizer"] == "rmsprop":
        values["momentum"] = trial.suggest_float("momentum", 0.0, 1.0)
    return values


def result(report, objective, **more):
    """What a trial reports."""
    return {
        "report": report,
        "objective": objective,
        "step": report * 10,
        "hostname": "here",
        "time/train_s": 1.0,
        "time/validation_s": 0.5,
        "val/mIoU_fg": objective,
        **more,
    }
